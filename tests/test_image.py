"""The image for real: built by buildah of the bento's own Containerfile, run read-only as the image's own user.

There need be no image engine and no registry: `deploy/base-image` makes the base of Debian's packages. A container is
the image's file system in a mount namespace of its own, entered by chroot; its network is this machine's.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bundle import build_bento, run
from server import FLAT, LOVES_GREEN, RED, REPOSITORY, Server, npy, picture, publish

pytestmark = pytest.mark.nightly

BASE, IMAGE = "docker.io/library/python:3.11-slim-bookworm", "localhost/sisa-test:latest"
BUILDAH = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
USER = 1034  # as deploy/kubernetes/base/deployment.yaml says
MOST_MB = 700  # on Debian's whole base; 410 on the published slim one
RAW = "/v1/predict/npy"
GOOD: dict[str, Any] = {"content": npy(picture(RED)[None]), "headers": {"content-type": "application/x-npy"}}


def buildah(*arguments: str | Path) -> str:
    return run("buildah", *arguments, cwd=REPOSITORY, **BUILDAH).strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's file system."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("buildah", "debootstrap", "unshare"))):
        pytest.skip("images are built as root, with buildah and debootstrap")
    if BASE not in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        run(REPOSITORY / "deploy/base-image")
    bento = build_bento(tmp_path_factory.mktemp("bento"), tmp_path_factory.mktemp("store"))
    file = bento / "env/docker/Dockerfile"
    buildah("build", "--pull-never", "--network", "host", "--tag", IMAGE, "--file", file, bento)
    container = buildah("from", "--pull-never", IMAGE)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)
        buildah("rmi", IMAGE)


class Container(Server):
    """The image as Compose runs it: models and state are volumes, all else is read-only."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._root, self._config = root, json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
        super().__init__(folder)

    def prepare(self, settings: dict[str, Any]) -> None:
        (self._root / "models").mkdir(exist_ok=True)
        (self._root / "etc/hosts").touch()  # an engine brings it
        (self.folder / "state").mkdir(exist_ok=True)
        os.chown(self.folder / "state", USER, USER)
        self.models.chmod(0o755)

    def command(self) -> list[str]:
        root, folder = shlex.quote(str(self._root)), shlex.quote(str(self.folder))
        environment = [
            *self._config["Env"],
            *("SISA_SERVE_MODELS=/models", "SISA_SERVE_STATE=/state", "BENTOML_HOME=/tmp/bentoml"),
            "SISA_ADMIN_TOKEN=adm1n",
        ]
        words = shlex.join(["env", "-i", *environment, *self._config["Entrypoint"], "serve"])
        user, workdir = self._config["User"], self._config["WorkingDir"]
        script = f"""
            mount --bind {root} {root} && mount -o remount,bind,ro {root}
            mount --bind {folder}/models {root}/models && mount -o remount,bind,ro {root}/models
            mount --bind {folder}/state {root}/state
            mount -t tmpfs tmpfs {root}/tmp && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev
            mount --bind /etc/hosts {root}/etc/hosts
            exec chroot --userspec={user} {root} sh -c 'cd "$0" && exec "$@"' {workdir} {words} "$@"
        """
        return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]

    def withdraw(self, digest: str) -> httpx.Response:
        headers = {"authorization": "Bearer adm1n"}
        return httpx.post(f"{self.url}/v1/withdraw", json={"sha256": [digest]}, headers=headers, timeout=30)


@pytest.fixture
def container(root: Path, tmp_path: Path) -> Iterator[Container]:
    publish(tmp_path / "models", 5, [FLAT, LOVES_GREEN, (1, 0, 0)])
    running = Container(tmp_path, root)
    with running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def test_it_answers_as_the_service_does_and_runs_read_only_as_its_own_user(
    container: Container, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("plain")
    publish(folder / "models", 5, [FLAT, LOVES_GREEN, (1, 0, 0)])
    with Server(folder) as plain, plain.client() as direct, container.client() as client:
        plain.wait(lambda: plain.status("/readyz") == 200)
        assert client.post(RAW, **GOOD).json() == direct.post(RAW, **GOOD).json()
    process = psutil.Process(container.process.pid)
    assert {each.uids().real for each in [process, *process.children(recursive=True)]} == {USER}
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
    (options,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
    assert "ro" in options.split(",")


def test_a_model_is_withdrawn_and_a_generation_swapped_through_the_volume(container: Container) -> None:
    first = json.loads((container.models / "ensemble.json").read_text())["shards"][0]["sha256"]
    assert container.withdraw(first).json()["turnout"]["pending"] == [0]
    with container.client() as client:
        assert client.post(RAW, **GOOD).json()["turnout"]["pending"] == [0]
        publish(container.models, 6, [(2, 0, 0), LOVES_GREEN, (1, 0, 0)])
        answer = client.post(RAW, **GOOD).json()
    assert (answer["generation"], answer["turnout"]["pending"]) == (6, [])


def test_it_stops_when_told_and_starts_again_with_the_floor_it_had(container: Container) -> None:
    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(30) in (0, -signal.SIGTERM)
    publish(container.models, 4, [FLAT, FLAT, FLAT])  # an older one
    container.start()
    container.wait(lambda: container.status("/livez") == 200)
    with container.client() as client:
        refused = client.post(RAW, **GOOD)
        assert (refused.status_code, client.get("/readyz").status_code) == (503, 503)
        publish(container.models, 7, [FLAT, FLAT, FLAT])
        container.wait(lambda: client.post(RAW, **GOOD).status_code == 200)
        assert client.get("/v1/ensemble").json()["floor"] == 7


def test_its_size_is_what_the_documents_say(root: Path) -> None:
    files = (path.lstat() for path in root.rglob("*"))
    size = sum(found.st_blocks * 512 for found in files) / 1e6
    print(f"the image has {size:.0f} MB")
    assert size < MOST_MB
