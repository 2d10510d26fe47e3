"""The bundle: built by BentoML, installed from its own requirements alone, served, asked over HTTP."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle import build_bento, run
from server import RED, REPOSITORY, Server, npy, picture

UV = shutil.which("uv") or str(REPOSITORY / ".uv/bin/uv")

# python:3.11-slim-bookworm, uncompressed, as its publishers give it; there is no Docker engine to ask.
BASE_IMAGE_MB = 130


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bento(tmp_path_factory.mktemp("bento"), tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def environment(bento: Path) -> Path:
    """A fresh virtual environment of what the bento asks for and nothing else."""
    folder = bento.parent / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    requirements = bento / "env/python/requirements.txt"
    run(UV, "pip", "install", "--quiet", "--compile-bytecode", "--requirement", requirements, VIRTUAL_ENV=str(folder))
    return folder


class Bento(Server):
    """`bentoml serve` of a bento's folder, with its own environment's Python."""

    def __init__(self, bento: Path, environment: Path) -> None:
        super().__init__(bento)
        self._python = environment / "bin/python"

    def prepare(self, settings: dict[str, Any]) -> None:
        """It is complete."""

    def command(self) -> list[str]:
        return [str(self._python), "-m", "bentoml", "serve", str(self.folder)]


@pytest.fixture(scope="module")
def served(bento: Path, environment: Path) -> Iterator[Server]:
    with Bento(bento, environment) as server:
        server.wait(lambda: server.status("/readyz") == 200)
        yield server


@pytest.mark.heavy
def test_the_bento_answers_from_its_own_requirements_and_tells_its_tag(bento: Path, served: Server) -> None:
    with served.client() as client:
        body = npy(picture(RED)[None])
        answer = client.post("/v1/predict/npy", content=body, headers={"content-type": "application/x-npy"}).json()
        assert (answer["generation"], answer["predictions"][0]["class"]) == (3, "red")
        assert client.get("/").status_code == client.get("/docs").status_code == 200
        tag = yaml.safe_load((bento / "bento.yaml").read_text())
        assert f'bento="{tag["name"]}:{tag["version"]}"' in client.get("/metrics").text


@pytest.mark.heavy
def test_nothing_of_training_is_in_it(bento: Path, environment: Path) -> None:
    names = ["torch", "torchvision", "training", "dvc"]
    program = f"import importlib.util as u, sys; sys.exit(any(map(u.find_spec, {names})))"
    run(environment / "bin/python", "-c", program, cwd=bento / "src")
    assert {path.name for path in (bento / "src").iterdir()} == {"serving", "models", "params.yaml", "bentofile.yaml"}
    made_by_serving = {"state"}
    assert {path.name for path in (bento / "src/models").iterdir()} - made_by_serving == {"ensemble.json", "onnx"}


@pytest.mark.heavy
def test_the_image_is_below_450_mb_by_the_sum_of_its_parts(bento: Path, environment: Path) -> None:
    parts = [path for folder in (bento, environment) for path in folder.rglob("*")]
    size = sum(path.stat().st_blocks * 512 for path in parts if path.is_file() and not path.is_symlink())
    assert BASE_IMAGE_MB + size / 1e6 < 450


@pytest.mark.heavy
def test_the_containerfile_is_slim_and_runs_as_nobody_special(bento: Path) -> None:
    containerfile = (bento / "env/docker/Dockerfile").read_text()
    assert "ARG BASE_IMAGE=python:3.11-slim-bookworm\nFROM ${BASE_IMAGE} AS" in containerfile
    assert "apt-get" not in containerfile
    assert "\nUSER bentoml\n" in containerfile
    assert "HEALTHCHECK" in containerfile
    assert "ENV BENTOML_DO_NOT_TRACK" in containerfile
    assert "ENV SISA_SERVE_MIN_GENERATION" in containerfile


# What hadolint says of BentoML's own lines: no `useradd -l` (uid 1034 is low), braces that sh takes as they are, and a
# user by name (Kubernetes is given the number).
BENTOMLS = ("DL3046", "SC3009", "DL3066")


@pytest.mark.heavy
def test_hadolint_finds_no_fault_with_our_lines_of_the_containerfile(bento: Path) -> None:
    ignored = [f"--ignore={rule}" for rule in BENTOMLS]
    assert run(Path(sys.executable).with_name("hadolint"), *ignored, bento / "env/docker/Dockerfile") == ""


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_the_requirements_are_those_of_the_lock(extra: str) -> None:
    groups = ["--only-group", "serving", "--only-group", extra]
    plain = ["--no-hashes", "--no-annotate", "--no-header"]
    locked = run(UV, "export", "--quiet", "--locked", *groups, *plain)
    assert (REPOSITORY / f"serving/requirements-{extra}.txt").read_text() == locked, "run `make requirements`"
