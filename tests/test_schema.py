"""The service's own description at /docs.json, held against the running service by schemathesis."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle import run
from schema_hooks import MAX_IMAGES
from server import FLAT, LOVES_GREEN, REPOSITORY, Server, publish

pytestmark = pytest.mark.heavy

TOKENS = {"SISA_API_TOKEN": "s3cret", "SISA_ADMIN_TOKEN": "adm1n"}
CONFIG = """
[auth.openapi.token]
bearer = "s3cret"

[auth.openapi.admin]
bearer = "adm1n"

[checks.negative_data_rejection]
expected-statuses = [400, 401, 413, 415]
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("described")
    publish(folder / "models", 7, [FLAT, LOVES_GREEN, FLAT])
    with Server(folder, TOKENS, max_images=MAX_IMAGES) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def check(server: Server, folder: Path, *options: str) -> str:
    """What schemathesis says. Raises AssertionError with all of it where the service and its description differ."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    schemathesis = (Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run")
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    options = ("--checks", "all", "--seed", "1", "--no-color", *options)
    hooks = {"SCHEMATHESIS_HOOKS": "schema_hooks", "PYTHONPATH": path}
    return run(*schemathesis, f"{server.url}/docs.json", *options, cwd=folder, **hooks)


def test_what_the_description_asks_for_is_taken_on_every_route(described: Server, tmp_path: Path) -> None:
    said = check(described, tmp_path, "--mode", "positive")
    assert "Tested: 9" in said


def test_what_the_description_excludes_is_refused_where_there_is_a_body(described: Server, tmp_path: Path) -> None:
    said = check(described, tmp_path, "--mode", "negative", "--include-method", "POST")
    assert "Tested: 4" in said
