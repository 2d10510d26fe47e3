"""docs/forgetting.md: its commands, run as they are written, in their order, in one project."""

from __future__ import annotations

import re
from pathlib import Path

import PIL.Image
import pytest
from conftest import Project
from server import FLAT, Server, publish

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.data.arrays import read_digits

DOCUMENT = Path(__file__).parents[1] / "docs/forgetting.md"
TOKEN = "adm1n"


def commands() -> list[str]:
    """Every line of a shell block, without its comment."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [re.sub(r"\s+# .*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_every_command_of_the_document_is_one() -> None:
    words = {" ".join(re.findall(r"^(?:\S+=\S+ )?(sisa(?: forget)? \w+)", line)) for line in commands()} - {""}
    assert words >= {"sisa forget add", "sisa status", "sisa where", "sisa plan", "sisa forget list"}


@pytest.mark.heavy
def test_the_document_works_as_it_is_written(reproduced: Project, tmp_path: Path) -> None:
    images, _ = read_digits()
    PIL.Image.fromarray(images[0]).save(reproduced.folder / "picture.png")
    publish(tmp_path / "elsewhere/models", 1, [FLAT, FLAT])
    with Server(tmp_path / "elsewhere", {"SISA_ADMIN_TOKEN": TOKEN}) as elsewhere:
        elsewhere.wait(lambda: elsewhere.status("/readyz") is not None)
        for line in commands():
            typed = line.replace("https://classifier.example", elsewhere.url).replace(
                "SISA_ADMIN_TOKEN=…", f"SISA_ADMIN_TOKEN={TOKEN}"
            )
            done = reproduced.run("bash", "-c", typed, check=False)
            # `sisa status` and `sisa forget run` say by 3 that something is open.
            allowed = (0, 3) if re.search(r"sisa (status|forget run)", line) else (0,)
            assert done.returncode in allowed, f"{typed}\n{done.stdout}\n{done.stderr}"
    reproduced.repro()
    assert turnout(Manifest.model_validate(reproduced.manifest())).pending == ()
    trained = {name for shard_id in range(3) for name in reproduced.shard(shard_id).ids}
    assert "123" in trained  # reinstated
    assert {"456", "457"} <= trained  # cancelled
    assert "458" not in trained
    assert reproduced.run("sisa", "status").returncode == 0
