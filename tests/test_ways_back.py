"""What is forgotten does not come back by anything that git, DVC or a backup can bring back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Project

from serving.ensemble.manifest import Manifest
from training.memory.members import read_members
from training.memory.secret import read_secret

pytestmark = [pytest.mark.pipeline, pytest.mark.heavy]


def answers_with(project: Project, sample_id: str) -> list[int]:
    """The shards that answer with a model that saw the sample."""
    workspace = project.workspace
    secret = read_secret(workspace.secret_file)
    assert secret is not None
    shards = Manifest.model_validate(project.manifest()).shards
    tables = {shard.shard: read_members(workspace.members_file(shard.sha256)) for shard in shards if shard.sha256}
    assert tables
    return [shard for shard, table in tables.items() if secret.of_id(sample_id) in table.slices]


def refused(done: subprocess.CompletedProcess[str], sample_id: str) -> bool:
    said = done.stdout + done.stderr
    return done.returncode != 0 and f"train/{sample_id}: a sample that forget/" in said


@pytest.fixture
def forgotten(reproduced: Project) -> tuple[Project, str]:
    """A project after two commits: all that it trained on, and the same without a sample; and the sample."""
    victim = reproduced.victim(1, 1)
    reproduced.forget(victim)
    reproduced.repro()
    reproduced.commit()
    assert answers_with(reproduced, victim) == []
    return reproduced, victim


def test_an_older_commit_is_refused(forgotten: tuple[Project, str]) -> None:
    project, victim = forgotten
    project.run("git", "checkout", "--quiet", "HEAD~1")
    assert refused(project.run("dvc", "repro", check=False), victim)
    assert answers_with(project, victim) == []


def test_what_dvc_checks_out_of_an_older_commit_is_not_published(forgotten: tuple[Project, str]) -> None:
    project, victim = forgotten
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--force")
    assert victim in project.shard(1).ids  # DVC brings the file back; nothing of it may be served
    project.run("dvc", "repro", check=False)
    project.run("sisa", "publish", check=False)
    assert answers_with(project, victim) == []


def test_what_is_pulled_of_an_older_commit_is_not_published(forgotten: tuple[Project, str], tmp_path: Path) -> None:
    project, victim = forgotten
    project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    project.run("git", "stash", "--quiet")  # the remote's configuration
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("git", "stash", "pop", "--quiet")
    project.run("dvc", "checkout", "--force")
    project.run("dvc", "push")
    shutil.rmtree(project.folder / ".dvc/cache")
    shutil.rmtree(project.folder / "data/shards")
    shutil.rmtree(project.folder / "models/exports")
    project.run("dvc", "pull", "--force")
    assert victim in project.shard(1).ids
    project.run("dvc", "repro", check=False)
    project.run("sisa", "publish", check=False)
    assert answers_with(project, victim) == []


@pytest.mark.parametrize("how", [("--temp",), ("--queue",)])
def test_an_experiment_that_does_not_know_a_list_is_refused(
    forgotten: tuple[Project, str], how: tuple[str, ...]
) -> None:
    project, _ = forgotten
    victim = project.victim(2, 1)
    (project.folder / "forget/new.txt").write_text(f"{victim}\n")
    project.repro()  # git does not know of the list yet, so the experiment's copy is without it
    done = project.run("dvc", "exp", "run", *how, "--name", "voting", "-S", "sisa.aggregation=vote", check=False)
    if how == ("--queue",):
        done = project.run("dvc", "exp", "run", "--run-all", check=False)
    assert f"train/{victim}: a sample that forget/new.txt" in done.stdout + done.stderr
    project.run("dvc", "exp", "apply", "voting", check=False)
    project.run("sisa", "publish", check=False)
    assert answers_with(project, victim) == []


def test_an_applied_experiment_brings_nothing_back(forgotten: tuple[Project, str]) -> None:
    project, victim = forgotten
    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.run("dvc", "checkout", "--force")
    project.run("dvc", "exp", "run", "--temp", "--name", "voting", "-S", "sisa.aggregation=vote", check=False)
    project.run("git", "checkout", "--quiet", "--force", "main")
    project.run("dvc", "exp", "apply", "voting", check=False)
    project.run("sisa", "publish", check=False)
    assert answers_with(project, victim) == []
    project.run("dvc", "repro", check=False)
    assert answers_with(project, victim) == []


def test_an_old_disk_that_is_restored_is_refused(forgotten: tuple[Project, str], tmp_path: Path) -> None:
    project, _ = forgotten
    victim = project.victim(0, 2)
    for name in ("data", "forget", "models"):
        shutil.copytree(project.folder / name, tmp_path / "disk" / name)
    (project.folder / "forget/more.txt").write_text(f"{victim}\n")
    project.repro()
    for name in ("data", "forget"):
        shutil.rmtree(project.folder / name)
        shutil.copytree(tmp_path / "disk" / name, project.folder / name)
    assert refused(project.run("dvc", "repro", check=False), victim)
    assert answers_with(project, victim) == []

    shutil.rmtree(project.folder / "models")
    shutil.copytree(tmp_path / "disk/models", project.folder / "models")  # what was served then, too
    project.run("dvc", "repro", check=False)
    project.run("sisa", "publish", check=False)
    assert answers_with(project, victim) == []
