"""What an insider might do, a script each, and what `sisa verify` says of it. Honest runs are not accused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import MODELS, Project, made_once
from server import Server, free_port

from training.erasure.findings import Verification
from training.erasure.verify import verify
from training.forgetting.add import add
from training.forgetting.reinstate import reinstate

FRAUDS = Path(__file__).parent / "frauds"

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="session")
def deletion(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with a project that has forgotten a sample, and ``before``: its copy of before that."""

    def make(folder: Path) -> None:
        project = Project.create(folder / "project").with_git()
        project.stages(*MODELS)
        project.commit()
        project.copy(folder / "before")
        victim = project.victim(1, 1)
        (folder / "victim").write_text(victim)
        add(project.workspace, [victim])
        project.stages(*MODELS)

    return made_once(tmp_path_factory, "deletion", make)


@pytest.fixture
def project(deletion: Project, tmp_path: Path) -> Project:
    """The project of ``deletion`` for oneself."""
    return Project(deletion.folder / "project").copy(tmp_path / "project")


def commit_fraud(name: str, deletion: Project, project: Project) -> None:
    environment = {**os.environ, "FORGOTTEN": (deletion.folder / "victim").read_text(), "PYTHONDONTWRITEBYTECODE": "1"}
    script = FRAUDS / f"{name}.py"
    subprocess.run([sys.executable, script, project.folder, deletion.folder / "before"], check=True, env=environment)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def failing(found: Verification) -> dict[str, str]:
    """By name what did not hold."""
    return {check.name: check.found for check in found.checks if check.outcome != "held"}


# By fraud: the check that notices it, and a part of what that says. Quick checks do for these.
NOTICED = {
    "swapped_onnx_file": ("models", "it was exchanged or damaged"),
    "edited_manifest": ("manifest", "it was edited, or an older one came back"),
    "picture_left_in_a_shard_file": ("forgotten samples", "which has the id of a forgotten sample"),
    "renamed_copy_in_training": ("forgotten samples", "of a forgotten sample"),
    "copy_with_forged_prints": ("keys", "does not hold the samples that the model of shard 1 was published with"),
    "copy_in_the_test_split": ("forgotten samples", "test.npy shows"),
    "older_generation_published": ("manifest", "the ledger ends with generation 3"),
    "ledger_line_removed": ("ledger", "is not linked to the one before"),
    "older_model_beside_the_published_ones": ("models", "lies among the published models and is none of them"),
    "older_checkpoint_kept": ("checkpoints", "is on no key chain"),
    "forged_environment": ("checkpoints", "were made elsewhere than the ledger says"),
    "code_that_forgets_to_forget": ("code", "training/data/duplicates.py differs from what git has"),
}


@pytest.mark.parametrize("fraud", NOTICED)
def test_a_fraud_is_noticed_without_training(fraud: str, deletion: Project, project: Project) -> None:
    commit_fraud(fraud, deletion, project)
    found = verify(project.workspace, quick=True)
    check, words = NOTICED[fraud]
    assert words in failing(found)[check]
    assert not found.passed


# Here the ledger was written anew from the first line that was changed on: what git has tells.
REWRITTEN = ("manifest_and_ledger_edited", "ledger_line_edited_and_linked_anew", "everything_from_before")


@pytest.mark.parametrize("fraud", REWRITTEN)
def test_a_ledger_that_was_rewritten_is_noticed_by_what_git_has(
    fraud: str, deletion: Project, project: Project
) -> None:
    project.commit()
    assert verify(project.workspace, quick=True).passed
    commit_fraud(fraud, deletion, project)
    assert "does not continue the one that git has" in failing(verify(project.workspace, quick=True))["ledger"]


def test_a_request_that_was_never_made_is_noticed_by_what_git_has(deletion: Project, project: Project) -> None:
    project.commit()
    commit_fraud("request_removed_everywhere", deletion, project)
    assert "does not continue the one that git has" in failing(verify(project.workspace, quick=True))["ledger"]


def test_a_model_that_saw_the_sample_under_a_forged_key_is_noticed_by_retraining_alone(
    deletion: Project, project: Project
) -> None:
    commit_fraud("model_that_saw_it_under_a_forged_key", deletion, project)
    assert failing(verify(project.workspace, quick=True)) == {}  # everything that can be read agrees
    victim = (deletion.folder / "victim").read_text()
    found = verify(project.workspace, samples=[victim])
    assert list(failing(found)) == ["shard 1"]
    assert "is another model than the published one" in failing(found)["shard 1"]
    assert verify(project.workspace, shards=[0]).passed  # whoever looks elsewhere does not see it


def test_a_service_that_lies_about_its_models_is_noticed_by_its_answers(deletion: Project, project: Project) -> None:
    port = free_port()
    environment = {**os.environ, "FORGOTTEN": "unused"}
    script, before = FRAUDS / "service_that_lies.py", deletion.folder / "before"
    liar = subprocess.Popen([sys.executable, script, project.folder, before, str(port)], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_port(port)
        found = verify(project.workspace, quick=True, url=url)
        assert "off by" in failing(found)["service"]
    finally:
        liar.kill()
        liar.wait()


def test_a_real_service_is_believed_and_one_of_an_older_generation_is_not(
    deletion: Project, project: Project, tmp_path: Path
) -> None:
    for name, checks in (("project", set()), ("before", {"service"})):
        served = Project(deletion.folder / name).copy(tmp_path / f"served-{name}")
        with Server(served.folder) as server:
            found = verify(project.workspace, quick=True, url=server.url)
            assert failing(found).keys() == checks


# Honest runs.


def test_an_honest_deletion_is_verified_bit_for_bit_and_the_ledger_says_so(deletion: Project, project: Project) -> None:
    found = verify(project.workspace)
    assert failing(found) == {}
    assert (found.comparison, [each.shard for each in found.retrained]) == ("bits", [0, 1, 2])
    last = project.workspace.ledger_file.read_text().splitlines()[-1]
    assert '"event":"verified"' in last
    assert '"passed":true' in last
    assert not (project.workspace.memory_folder / "verify").exists()
    assert verify(project.workspace, quick=True).passed  # the entry itself disturbs nothing


def test_a_sample_that_was_reinstated_is_no_fraud(deletion: Project, project: Project) -> None:
    reinstate(project.workspace, [(deletion.folder / "victim").read_text()], "asked by mistake")
    project.stages(*MODELS)
    assert failing(verify(project.workspace)) == {}


def test_a_request_that_is_not_carried_out_yet_is_said_to_be_open(project: Project) -> None:
    add(project.workspace, [project.victim(0, 0)])
    assert "not carried out yet" in failing(verify(project.workspace, quick=True))["requests"]


def test_other_parameters_are_said_not_to_be_those_of_what_is_published(project: Project) -> None:
    project.change(training__learning_rate=0.04)
    found = verify(project.workspace, quick=True)
    assert "parameters, the recipe's code" in failing(found)["keys"]
    assert found.outcome == "not checked"


def test_an_auditors_clone_is_verified_and_its_ledger_is_left_alone(project: Project) -> None:
    project.commit()
    own, export = project.workspace.ledger_file, project.workspace.ledger_export
    kept = own.read_bytes()
    own.unlink()  # a clone has git's copy alone
    found = verify(project.workspace, quick=True)
    assert found.outcome == "held"
    assert "in git's copy, there being no other" in found.checks[0].found
    assert (own.exists(), export.read_bytes()) == (False, kept)
    own.write_bytes(kept)
    assert verify(project.workspace, quick=True, record=False).outcome == "held"
    assert own.read_bytes() == export.read_bytes() == kept


def test_an_old_copy_of_the_ledger_costs_no_entry_of_the_other(project: Project) -> None:
    own, export = project.workspace.ledger_file, project.workspace.ledger_export
    kept = own.read_bytes()
    own.write_bytes(b"".join(kept.splitlines(keepends=True)[:-2]))
    found = verify(project.workspace, quick=True)
    assert failing(found)["ledger"].endswith("lacks entries that the other copy has; `sisa publish` extends it")
    assert export.read_bytes() == kept
    project.run("sisa", "publish")
    assert verify(project.workspace, quick=True).outcome == "held"
    assert own.read_bytes().startswith(kept)


def test_parameters_that_git_does_not_have_are_not_certified(project: Project) -> None:
    with (project.folder / "params.yaml").open("a") as file:
        file.write("# changed\n")
    found = verify(project.workspace, quick=True)
    assert "params.yaml differs from what git has" in failing(found)["code"]
    assert found.outcome == "not checked"


def test_a_git_that_refuses_or_is_told_to_look_away_is_not_taken_for_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("GIT_DIR", "/nowhere")
        found = verify(project.workspace, quick=True)
        assert "git does not answer here" in failing(found)["ledger"]
        assert found.outcome == "not checked"
    file = "training/data/duplicates.py"
    project.run("git", "update-index", "--assume-unchanged", file)
    with (project.folder / file).open("a") as code:
        code.write("# changed\n")
    assert f"git was told not to look at changes of {file}" in failing(verify(project.workspace, quick=True))["code"]


def test_a_clone_without_the_secret_says_what_it_cannot_check(project: Project) -> None:
    project.workspace.secret_file.unlink()
    project.workspace.suppressed_file.unlink()
    found = verify(project.workspace, quick=True)
    assert found.outcome == "not checked"
    assert {"forgotten samples", "commitments"} <= failing(found).keys()


def test_what_other_instructions_trained_is_compared_by_its_answers_and_said_to_be_weaker(project: Project) -> None:
    out = project.run("env", "ATEN_CPU_CAPABILITY=default", "sisa", "verify", "--shard", "0", "--json").stdout
    found = json.loads(out[out.index("\n{\n") :])
    (shard,) = found["retrained"]
    assert found["outcome"] == "held"
    assert not shard["equal"]
    assert "DEFAULT here" in shard["differs"][0]
    assert shard["distance"] < 0.25
    assert "which is weaker" in next(check["found"] for check in found["checks"] if check["name"] == "shard 0")
