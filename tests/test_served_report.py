"""The report at /report: of the models that answer, and of no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import FLAT, LOVES_GREEN, Server, publish

pytestmark = pytest.mark.heavy

TOKENS = {"SISA_API_TOKEN": "s3cret", "SISA_ADMIN_TOKEN": "adm1n"}
API, ADMIN = {"authorization": "Bearer s3cret"}, {"authorization": "Bearer adm1n"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    publish(tmp_path / "models", 1, [FLAT, LOVES_GREEN, (1, 0, 0)])
    with Server(tmp_path, TOKENS) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def digests(server: Server) -> list[str]:
    return [shard["sha256"] for shard in json.loads((server.models / "ensemble.json").read_text())["shards"]]


def write_report(server: Server, models: list[str]) -> None:
    (server.folder / "reports").mkdir(exist_ok=True)
    meta = f'<meta name="sisa-models" content="{" ".join(models)}">'
    (server.folder / "reports/report.html").write_text(f"<html><head>{meta}</head><body><p>as it was</p></body></html>")


def asked(server: Server) -> httpx.Response:
    return httpx.get(f"{server.url}/report", headers=API)


def test_a_report_is_shown_with_the_models_that_it_describes_and_never_with_others(server: Server) -> None:
    assert (asked(server).status_code, asked(server).json()["found"]) == (404, "none")
    write_report(server, digests(server))
    assert httpx.get(f"{server.url}/report").status_code == 401
    assert (asked(server).status_code, "withdrawn" in asked(server).text) == (200, False)

    first = digests(server)[0]
    httpx.post(f"{server.url}/v1/withdraw", json={"sha256": [first]}, headers=ADMIN).raise_for_status()
    page = asked(server)
    assert page.status_code == 200
    assert "<body><p role=" in page.text
    assert "Models of shards 0 are withdrawn" in page.text

    httpx.post(f"{server.url}/v1/withdraw", json={"sha256": digests(server)}, headers=ADMIN).raise_for_status()
    assert "Models of shards 0, 1, 2 are withdrawn" in asked(server).text

    publish(server.models, 2, [(2, 0, 0), (0, 21, 0), (1, 2, 0)])  # all are trained again
    server.wait(lambda: httpx.get(f"{server.url}/v1/ensemble", headers=API).json().get("generation") == 2)
    assert (asked(server).status_code, asked(server).json()["found"]) == (404, "one that describes other models")
    write_report(server, digests(server))
    assert (asked(server).status_code, "withdrawn" in asked(server).text) == (200, False)


def test_a_report_that_names_no_models_is_not_shown(server: Server) -> None:
    (server.folder / "reports").mkdir()
    (server.folder / "reports/report.html").write_text("<html><body></body></html>")
    assert asked(server).status_code == 404
