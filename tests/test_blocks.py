"""Another number of blocks moves files and trains nothing, wherever it is stopped, whatever is forgotten meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from backbones import FROZEN, pixels, write
from conftest import MODELS, Project
from faults import Stopped

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.blocks import bring_home
from training.chain.plan import load_plan, retrained
from training.forgetting.add import add
from training.publish.withdraw import withdraw

Stamps = dict[str, tuple[int, int, bytes]]


def stamps(project: Project) -> Stamps:
    """By path within its block, a file's inode, time and bytes: of one that was moved all three stay."""
    folders = project.workspace.checkpoints_folder, project.workspace.exports_folder
    found: Stamps = {}
    for path in (path for folder in folders for path in folder.rglob("shard-*") if path.is_dir() or path.suffix):
        for file in path.rglob("*") if path.is_dir() else [path]:
            name = "/".join(file.relative_to(path.parent).parts)
            assert name not in found, f"{name} is in two blocks"
            found[name] = (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes())
    return found


def where(project: Project) -> dict[int, set[str]]:
    """By shard the folders that hold its checkpoints or model."""
    folders = project.workspace.checkpoints_folder, project.workspace.exports_folder
    found: dict[int, set[str]] = {}
    for path in (path for folder in folders for path in folder.rglob("shard-*")):
        found.setdefault(int(path.stem.removeprefix("shard-")), set()).add(path.parent.name)
    return found


def turned_out(project: Project) -> tuple[tuple[int, ...], tuple[int, ...]]:
    found = turnout(Manifest.model_validate(project.manifest()))
    return found.pending, found.earlier_slice


def test_thirty_shards_in_four_blocks_become_seven_in_three(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "thirty", **{**FROZEN, "sisa__shards": 30, "sisa__blocks": 4})
    write(project.folder / "models/initial/pixels.onnx", pixels(8))
    project.stages(*MODELS)
    assert where(project) == {shard: {f"block-{shard % 4}"} for shard in range(30)}
    before = stamps(project)
    project.change(sisa__blocks=7)
    project.stages(*MODELS)
    assert where(project) == {shard: {f"block-{shard % 7}"} for shard in range(30)}
    assert stamps(project) == before
    project.change(sisa__shards=7, sisa__blocks=3)
    project.stages(*MODELS)
    assert where(project) == {shard: {f"block-{shard % 3}"} for shard in range(7)}


@pytest.mark.heavy
@pytest.mark.parametrize("after", [2, 10])
def test_stopped_at_any_step_of_the_move_the_next_run_completes_it(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """``after``: the number of blocks then, 2, or that of before again."""
    before, planned, replace = stamps(trained), trained.contents("models/plan"), os.replace
    home = {0: {"block-0"}, 1: {"block-1"}, 2: {f"block-{2 % after}"}}
    moves = 0

    def stop_at(step: int, project: Project) -> bool:
        left = step

        def replaced(source: Any, target: Any, **folders: Any) -> None:
            nonlocal left
            if left == 0:
                raise Stopped
            left -= 1
            replace(source, target, **folders)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replaced)
            try:
                project.stages("schedule")
            except Stopped:
                return True
        return False

    for step in range(100):
        project = trained.copy(tmp_path / f"stopped-{step}")
        before = stamps(project)
        project.change(sisa__blocks=2)
        if not stop_at(step, project):
            break
        if where(project) != where(trained):
            moves += 1
            assert project.contents("models/plan") != planned, "DVC sees that schedule is to run again"
        project.change(sisa__blocks=after)
        project.stages("schedule", "train", "assemble")
        assert where(project) == home
        assert stamps(project) == before
        shutil.rmtree(project.folder)
    assert moves >= 3  # the folder of checkpoints, the model, its record: of shard 2


def test_a_withdrawal_finds_earlier_slices_wherever_they_stand(trained: Project) -> None:
    victims = [trained.victim(shard, 2) for shard in range(3)]
    trained.change(sisa__blocks=2)  # and nothing has been moved yet
    plans = [load_plan(trained.workspace.plan_file(shard)) for shard in range(3)]
    assert retrained(trained.workspace, plans) == {0: [], 1: [], 2: []}
    trained.forget(*victims)
    withdraw(trained.workspace)
    assert turned_out(trained) == ((), (0, 1, 2))


def test_a_withdrawal_finds_earlier_slices_where_parameters_cannot_be_used(trained: Project) -> None:
    victims = [trained.victim(shard, 2) for shard in range(3)]
    trained.change(sisa__blocks=2)
    trained.stages("schedule")
    trained.change(seed="none")  # so that nothing can be known of blocks
    add(trained.workspace, victims)
    assert turned_out(trained) == ((), (0, 1, 2))


def test_a_withdrawn_model_is_deleted_though_moving_it_was_cut_short(trained: Project) -> None:
    trained.change(sisa__blocks=2)
    workspace = trained.workspace
    bring_home(workspace.exports_folder, workspace.export_file(2))  # not its record
    trained.forget(trained.victim(2, 1))
    withdraw(workspace)
    assert list(workspace.exports_folder.rglob("shard-2.onnx")) == []
    assert len(list(workspace.exports_folder.rglob("shard-*.onnx"))) == 2
    trained.stages(*MODELS)
    assert turned_out(trained) == ((), ())


@pytest.mark.heavy
def test_dvc_moves_models_into_fewer_blocks_and_a_deletion_retrains_one_shard_of_its_block(reproduced: Project) -> None:
    before = stamps(reproduced)
    reproduced.change(sisa__blocks=2)
    assert reproduced.repro("assemble") == ["schedule", "train@0", "train@2", "assemble"]
    assert stamps(reproduced) == before
    assert reproduced.repro("assemble") == []
    reproduced.forget(reproduced.victim(2, 1))
    assert reproduced.repro("assemble") == ["partition", "features", "schedule", "train@0", "assemble"]
    same = {name for name, stamp in stamps(reproduced).items() if before.get(name) == stamp}
    assert {name for name in before if not name.startswith("shard-2")} <= same
    assert [name for name in same if name.startswith("shard-2")] == [
        name for name in before if name.startswith("shard-2/slice-00")
    ]
