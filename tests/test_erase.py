"""`sisa erase`: from the first word to the certificate, wherever it is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MODELS, Project
from test_purge import pictures

from training.erasure.erase import ensure_verified, enter_into_git, erase
from training.erasure.verify import verify
from training.errors import EraseError
from training.forgetting.add import add

pytestmark = pytest.mark.heavy
SECONDS = 600


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "keys/signing-key.pem"
    monkeypatch.setenv("SISA_SIGNING_KEY", str(path))
    return f"SISA_SIGNING_KEY={path}"


def events(project: Project) -> list[str]:
    return [json.loads(line)["event"] for line in project.workspace.ledger_file.read_text().splitlines()]


def test_it_runs_to_its_end_and_typed_again_does_nothing_more(reproduced: Project, key: str) -> None:
    project = reproduced
    victim = project.victim(1, 1)
    with pytest.raises(EraseError, match=r"`sisa keys new` makes one\. Nothing was asked for or withdrawn yet"):
        erase(project.workspace, "ticket", [victim])
    assert "requested" not in events(project)  # the end could not have been reached
    project.run("env", key, "sisa", "keys", "new")
    project.commit()
    command = ["env", key, "sisa", "erase", victim, "--request", "ticket"]
    stopped = project.run(*command, check=False)
    assert stopped.returncode == 1
    assert "`git add dvc.lock models/ledger.jsonl && git commit -m 'Forget ticket'`" in stopped.stderr
    out = project.run(*command, "--commit").stdout
    assert "1 sample of ticket is no longer in what the published models were trained on." in out
    said = events(project)
    assert said == ["published", "requested", "withdrawn", "published", "verified", "purged", "certified"]
    assert project.run("git", "log", "--format=%s", "-2").stdout.split("\n")[:2] == ["Certify ticket", "Forget ticket"]
    assert project.run("git", "status", "--porcelain").stdout == ""
    (sent,) = (project.workspace.erasure.requesters).rglob("*.json")
    assert project.workspace.short(sent) in out

    before = project.workspace.ledger_file.read_bytes()
    again = project.run(*command, "--commit").stdout
    assert again.splitlines()[-3:] == out.splitlines()[-3:]
    assert project.workspace.ledger_file.read_bytes() == before
    path = next(line.strip() for line in out.splitlines() if line.endswith("certificate.json"))
    checked = project.run("sisa", "certificate", "check", path, "--ids", str(sent)).stdout
    assert "it is of the sample of ticket" in checked


def test_a_verification_that_failed_since_is_made_again(trained: Project) -> None:
    workspace = trained.workspace
    add(workspace, [trained.victim(1, 1)], name="ticket")
    trained.stages(*MODELS)
    ensure_verified(workspace, "ticket", every_shard=False)
    count = events(trained).count("verified")
    ensure_verified(workspace, "ticket", every_shard=False)
    assert events(trained).count("verified") == count  # the ledger says that it was done
    content = workspace.shard_file(0).read_bytes()
    workspace.shard_file(0).write_bytes(content[:-1])
    assert verify(workspace, quick=True).outcome == "failed"
    with pytest.raises(EraseError, match="could not be verified"):
        ensure_verified(workspace, "ticket", every_shard=False)
    workspace.shard_file(0).write_bytes(content)
    ensure_verified(workspace, "ticket", every_shard=False)
    assert events(trained).count("verified") == count + 3


@pytest.mark.nightly
def test_killed_at_each_step_the_same_command_completes_it(reproduced: Project, key: str) -> None:
    project = reproduced
    project.run("env", key, "sisa", "keys", "new")
    project.commit()
    command = ["env", key, "sisa", "erase", project.victim(1, 1), "--request", "ticket", "--commit"]
    for step in range(1, 8):
        with project.start(*command) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(f"{step} of 7"):
                    break
            time.sleep(0.3)  # into the step
            os.killpg(process.pid, signal.SIGKILL)
    out = project.run(*command, seconds=SECONDS).stdout
    assert "1 sample of ticket is no longer in what the published models were trained on." in out
    said = events(project)
    assert (said.count("requested"), said.count("certified")) == (1, 1)
    assert project.run("sisa", "verify", "--quick").returncode == 0


DOCUMENT = Path(__file__).parents[1] / "docs/erasure.md"


def test_the_document_works_as_it_is_written(reproduced: Project, key: str) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [re.sub(r"\s+# .*", "", line).strip() for block in blocks for line in block.splitlines()]
    assert sum(line.startswith("sisa erase") for line in lines) == 3
    for line in lines:
        reproduced.run("env", key, "bash", "-c", line)
    said = [json.loads(line) for line in reproduced.workspace.ledger_file.read_text().splitlines()]
    certified = [entry["requests"] for entry in said if entry["event"] == "certified"]
    assert certified == [["ticket-7"], ["ticket-8"], ["ticket-9"]]
    # The two that came together were trained for, verified and purged once.
    assert [entry["event"] for entry in said].count("purged") == 2
    assert not {"123", "45", "67"} & {name for shard_id in range(3) for name in reproduced.shard(shard_id).ids}


def test_with_source_the_pictures_go_first_and_all_is_up_to_date_at_the_end(
    create: Callable[..., Project], key: str
) -> None:
    project = create("pictures", data__source="imagefolder", data__root="pictures", sisa__slices=1)
    pictures(project)
    (project.folder / ".gitignore").write_text(f"{(project.folder / '.gitignore').read_text()}/pictures\n")
    project.with_git().repro()
    project.run("env", key, "sisa", "keys", "new")
    project.commit()
    command = ["env", key, "sisa", "erase", "cat/2.png", "--request", "ticket", "--source", "--yes", "--commit"]
    out = project.run(*command).stdout
    assert "\n1 sample of ticket is no longer in what the published models were trained on." in out  # and no warning
    assert not (project.folder / "pictures/train/cat/2.png").exists()
    assert project.run("sisa", "status").returncode == 0
    generation = project.manifest()["generation"]
    assert project.run(*command).stdout.splitlines()[-3:] == out.splitlines()[-3:]
    assert project.manifest()["generation"] == generation


def test_only_what_it_names_is_committed(reproduced: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project = reproduced
    (project.folder / "notes.txt").write_text("mine")
    project.run("git", "add", "notes.txt")
    with (project.folder / "dvc.lock").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(EraseError, match=r"`git add dvc\.lock"):
        enter_into_git(project.workspace, "Forget x", commit=False)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tester@example.invalid")
    enter_into_git(project.workspace, "Forget x", commit=True)
    assert project.run("git", "show", "--name-only", "--format=", "HEAD").stdout.split() == ["dvc.lock"]
    assert project.run("git", "status", "--porcelain").stdout.startswith("A  notes.txt")


def test_what_cannot_be_asked_stops_at_the_first_step(reproduced: Project, key: str) -> None:
    project = reproduced
    project.run("env", key, "sisa", "keys", "new")
    with pytest.raises(EraseError, match="there is no request 'ticket' yet"):
        erase(project.workspace, "ticket")
    with pytest.raises(EraseError, match="never a sample here: 99999"):
        erase(project.workspace, "ticket", ["99999", project.victim(0, 0)])
    with pytest.raises(EraseError, match="ticket does not ask for '99999'"):
        erase(project.workspace, "ticket", ["99999"])
