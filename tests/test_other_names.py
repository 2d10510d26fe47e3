"""A picture is forgotten under every name that it had, and a name that was reinstated is no blank cheque."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, Project
from PIL import Image

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.data.store import load_shard
from training.errors import RequestError, ReturnedError
from training.forgetting.add import add
from training.forgetting.reinstate import reinstate
from training.forgetting.requests import show_request
from training.publish.withdraw import withdraw


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An image folder of 2 classes with 110 pictures each, published by two shards of one slice."""
    project = Project.create(
        tmp_path / "project",
        data__source="imagefolder",
        data__root="pictures",
        data__subjects="folder",
        sisa__shards=[0, 1],
        sisa__slices=1,
    )
    generator = np.random.default_rng(0)
    for split, count in (("train", 110), ("test", 4)):
        for name in ("cat", "dog"):
            for number in range(count):
                path = project.folder / "pictures" / split / name / f"p{number // 2}/{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    project.stages(*MODELS)
    return project


def train(project: Project) -> Path:
    return project.folder / "pictures/train"


def in_the_test_split(project: Project) -> set[str]:
    return set(load_shard(project.workspace.test_file).ids)


def trained_on(project: Project) -> set[str]:
    return {name for shard_id in range(2) for name in project.shard(shard_id).ids}


def test_by_an_old_name_the_picture_is_forgotten_under_the_one_it_has_now(project: Project) -> None:
    (train(project) / "cat/p1/3.png").rename(train(project) / "cat/p1/renamed.png")
    project.stages(*MODELS)
    assert "cat/p1/renamed.png" in trained_on(project)
    add(project.workspace, ["cat/p1/3.png"], name="old-name")
    assert show_request(project.workspace, "old-name").samples == ("cat/p1/3.png", "cat/p1/renamed.png")
    assert len(turnout(Manifest.model_validate(project.manifest())).pending) >= 1
    project.stages(*MODELS)
    assert "cat/p1/renamed.png" not in trained_on(project)


def test_what_is_forgotten_by_its_new_name_does_not_come_back_under_the_old_one(project: Project) -> None:
    kept = project.folder / "backup.png"
    shutil.copy(train(project) / "cat/p1/3.png", kept)
    (train(project) / "cat/p1/3.png").rename(train(project) / "cat/p1/renamed.png")
    project.stages(*MODELS)
    add(project.workspace, ["cat/p1/renamed.png"])
    project.stages(*MODELS)
    shutil.copy(kept, train(project) / "cat/p1/3.png")
    with pytest.raises(ReturnedError, match=r"cat/p1/3\.png"):
        project.stages("partition")
    assert "cat/p1/3.png" not in trained_on(project)


def test_another_forgotten_picture_under_a_reinstated_id_is_refused(project: Project) -> None:
    add(project.workspace, ["cat/p1/3.png"])
    project.stages(*MODELS)
    reinstate(project.workspace, ["cat/p1/3.png"], "consent")
    project.stages(*MODELS)
    add(project.workspace, ["cat/p2/4.png"])
    project.stages(*MODELS)
    shutil.copy(train(project) / "cat/p2/4.png", train(project) / "cat/p1/3.png")
    with pytest.raises(ReturnedError, match=r"cat/p1/3\.png"):
        project.stages("partition")


def test_a_forgotten_subject_stays_so_when_its_line_is_gone_and_leaves_the_test_split(project: Project) -> None:
    assert {"cat/p0/0.png", "dog/p0/0.png"} <= in_the_test_split(project)
    project.forget("subject:p0")
    project.stages(*MODELS)
    assert not [name for name in in_the_test_split(project) if "/p0/" in name]
    shutil.rmtree(train(project) / "cat/p0")
    shutil.rmtree(train(project) / "dog/p0")
    project.forget()
    project.stages(*MODELS)
    (train(project) / "cat/p0").mkdir()
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(train(project) / "cat/p0/new.png")
    with pytest.raises(ReturnedError, match=r"cat/p0/new\.png"):
        project.stages("partition")


def test_a_picture_that_was_renamed_while_it_was_only_monitored_is_withdrawn_by_its_old_name(project: Project) -> None:
    project.change(forget__apply=False)
    project.forget("cat/p1/3.png")
    project.stages(*MODELS)
    (train(project) / "cat/p1/3.png").rename(train(project) / "cat/p1/renamed.png")
    project.stages(*MODELS)
    project.change(forget__apply=True)
    withdraw(project.workspace)
    assert len(turnout(Manifest.model_validate(project.manifest())).pending) >= 1
    with pytest.raises(ReturnedError, match=r"cat/p1/renamed\.png"):
        project.stages("partition")


def test_another_spelling_of_an_id_that_is_there_is_not_gone(project: Project) -> None:
    for spelling in ("CAT/p1/3.png", "train/cat/p1/3.png"):
        with pytest.raises(RequestError, match=r"only spelt otherwise.*\n.*'cat/p1/3\.png' is trained on"):
            add(project.workspace, [spelling], gone=True)
    assert not project.workspace.private_folder.exists()


def test_a_picture_renamed_after_a_partition_that_was_not_published_is_refused_under_its_new_name(
    project: Project,
) -> None:
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(train(project) / "cat/p1/new.png")
    project.stages("partition")
    (train(project) / "cat/p1/new.png").rename(train(project) / "cat/p1/new2.png")
    add(project.workspace, ["cat/p1/new.png"])
    with pytest.raises(ReturnedError, match=r"cat/p1/new2\.png"):
        project.stages("partition")


def test_with_its_copies_a_picture_is_withdrawn_from_every_shard_that_saw_one(project: Project) -> None:
    shard_of = {name: shard_id for shard_id in range(2) for name in project.shard(shard_id).ids}
    other = next(name for name in shard_of if name.startswith("dog/") and shard_of[name] != shard_of["cat/p1/3.png"])
    shutil.copy(train(project) / "cat/p1/3.png", train(project) / other)
    project.stages(*MODELS)
    project.change(data__duplicates="forget", serve={"quorum": 0})
    add(project.workspace, ["cat/p1/3.png"])
    assert turnout(Manifest.model_validate(project.manifest())).pending == (0, 1)
    project.stages(*MODELS)
    assert not {"cat/p1/3.png", other} & trained_on(project)
