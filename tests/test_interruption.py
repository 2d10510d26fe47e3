"""Stopped at any point, the next ``dvc repro`` completes and equals an undisturbed run bit for bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import MODELS, Project, made_once

from training.chain.plan import load_plan, make_plan
from training.engine.serial import train_shard
from training.errors import StalePlanError

Create = Callable[..., Project]

# Slices of a second and more, so that a process can be caught in the middle of one.
SLOW = {"sisa__shards": [0], "sisa__slices": 3, "training__epochs_per_slice": 4, "training__batch_size": 16}


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def checkpoints(project: Project) -> list[Path]:
    return sorted((project.folder / "models/checkpoints/block-0/shard-0").glob("slice-*.safetensors"))


def trainers(project: Project) -> list[int]:
    """Process ids of the trainers that run in a project."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command, folder = (entry / "cmdline").read_bytes(), (entry / "cwd").readlink()
            except OSError:
                continue
            if (
                b"\0training.stages.train\0" in command
                and folder == project.folder
                and b"sh" not in command.split(b"\0")[0]
            ):
                found.append(int(entry.name))
    return found


def lock_holders(project: Project) -> list[int]:
    """Process ids that DVC's lock names; it is held for as long as the system knows one, if only as a zombie."""
    return [int(pid) for pid in re.findall(r'"pid": (\d+)', (project.folder / ".dvc/tmp/rwlock").read_text())]


def output_after_waiting_for(holder: int, start: Callable[[], subprocess.Popen[str]]) -> str:
    """What a process prints after it has said that it waits for ``holder``, which is stopped until then."""
    os.kill(holder, signal.SIGSTOP)
    with start() as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if f"shard 0: waiting for process {holder}, which is working on it" in line:
                    break
            else:
                pytest.fail("it did not wait")
        finally:
            os.kill(holder, signal.SIGCONT)
        out = process.stdout.read()
    assert process.returncode == 0, out
    return out


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | str]:
    return made_once(
        tmp_path_factory, "undisturbed", lambda folder: Project.create(folder, **SLOW).stages(*MODELS)
    ).models()


@pytest.mark.heavy
def test_a_trainer_killed_in_mid_slice(create: Create, undisturbed: dict[str, bytes | str]) -> None:
    project = create("project", **SLOW).with_git()
    dvc = project.start("dvc", "repro")
    wait_for(lambda: checkpoints(project), "the first checkpoint")
    (trainer,) = trainers(project)
    os.kill(trainer, signal.SIGKILL)
    out, _ = dvc.communicate(timeout=120)
    assert dvc.returncode != 0, out
    assert len(checkpoints(project)) == 1
    out = project.run("dvc", "repro").stdout
    assert "trained slices 1 to 2" in out
    assert project.models() == undisturbed


@pytest.mark.heavy
def test_dvc_killed_and_its_trainer_left_alive(create: Create, undisturbed: dict[str, bytes | str]) -> None:
    project = create("project", **SLOW).with_git()
    dvc = project.start("dvc", "repro")
    wait_for(lambda: checkpoints(project), "the first checkpoint")
    dvc.kill()
    dvc.wait()  # but leave its pipe open: the trainer writes there
    (orphan,) = trainers(project)
    out = output_after_waiting_for(orphan, lambda: project.start("dvc", "repro"))
    assert "every checkpoint is valid, nothing to train" in out  # the orphan had finished
    dvc.communicate(timeout=120)
    assert project.models() == undisturbed


@pytest.mark.heavy
def test_both_killed_and_the_request_changed_meanwhile(create: Create) -> None:
    project, scratch = create("project", **SLOW).with_git(), create("scratch", **SLOW)
    dvc = project.start("dvc", "repro")
    wait_for(lambda: checkpoints(project), "the first checkpoint")
    for process in trainers(project):
        os.kill(process, signal.SIGKILL)
    dvc.kill()
    dvc.communicate(timeout=120)
    for each in (project, scratch):
        each.forget("3", "5", "8")
    project.repro()
    scratch.stages(*MODELS)
    assert project.models() == scratch.models()


@pytest.mark.heavy
def test_a_drill_killed_in_mid_training_goes_on_from_its_last_checkpoint(create: Create) -> None:
    project = create("project", **SLOW)
    unlearned = Project(project.folder / ".drills/forget/unlearned")
    drill = project.start("sisa", "drill", "forget", "--samples=20", "--fresh")
    wait_for(lambda: checkpoints(unlearned), "the first checkpoint")
    assert trainers(unlearned)
    os.killpg(drill.pid, signal.SIGKILL)
    drill.communicate(timeout=120)
    wait_for(lambda: not trainers(unlearned), "the trainer's end")
    wait_for(lambda: not any(map(psutil.pid_exists, lock_holders(unlearned))), "the system to forget the killed DVC")
    assert not (project.folder / "reports/drills/forget.json").exists()

    with (project.folder / "params.yaml").open("a") as params:
        params.write("serve:\n  workers: 2\n")  # no drill depends on how the project is served
    out = project.run("sisa", "drill", "forget", "--samples", "20").stdout
    assert "trained slices 1 to 2" in out
    result = json.loads((project.folder / "reports/drills/forget.json").read_text())
    assert result["identical"] == {"shards": 1, "of": 1}
    cost = {step: column["cells"] for step, column in result["columns"].items()}
    assert cost["before"]["sample_epochs"]["value"] == cost["before"]["sample_epochs"]["of"]
    assert cost["before"]["seconds"]["value"] == pytest.approx(
        cost["before"]["seconds"]["of"]
    )  # also what was done before
    assert cost["after"]["seconds"]["value"] > 0


def test_a_truncated_and_a_flipped_checkpoint_are_trained_again(trained: Project) -> None:
    before = trained.models()
    folder = trained.workspace.checkpoints_folder
    (first,) = (folder / "block-0/shard-0").glob("slice-00-*")
    (middle,) = (folder / "block-1/shard-1").glob("slice-01-*")
    (last,) = (folder / "block-2/shard-2").glob("slice-02-*")
    first.write_bytes(first.read_bytes()[:1000])
    flipped = bytearray(middle.read_bytes())
    flipped[len(flipped) // 2] ^= 16
    middle.write_bytes(flipped)
    last.unlink()
    trained.stages("train", "assemble")
    assert trained.models() == before


def test_a_checkpoint_that_has_seen_other_data_is_never_built_upon(trained: Project) -> None:
    before = trained.models()
    folder = trained.workspace.checkpoints_folder
    (right,) = (folder / "block-0/shard-0").glob("slice-02-*")
    (other,) = (folder / "block-1/shard-1").glob("slice-02-*")
    right.write_bytes(other.read_bytes())  # under the right name
    (folder / "block-0/shard-0/slice-01-0123456789abcdef.safetensors").write_bytes(other.read_bytes())
    (folder / "block-0/shard-0/.slice-02.tmp").write_bytes(b"left by a killed run")
    trained.stages("train", "assemble")
    assert trained.models() == before


@pytest.mark.parametrize("name", ["shard-1.onnx", "shard-1.json"])
def test_a_damaged_or_lost_export_is_made_again_without_training(
    trained: Project, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="training")
    before = trained.models()
    path = trained.workspace.export_file(1).with_name(name)
    for content in (b"damaged", None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        trained.stages("train")
        assert trained.models() == before
    assert "trained slice" not in caplog.text


def test_fresh_ignores_valid_checkpoints_and_trains_the_same_again(
    trained: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="training")
    before = trained.models()
    train_shard(trained.workspace, 1)
    assert "nothing to train" in caplog.text
    train_shard(trained.workspace, 1, fresh=True)
    assert "trained slices 0 to 2" in caplog.text
    assert trained.models() == before


def test_a_shard_that_is_replaced_while_its_trainer_starts_never_reaches_its_checkpoints(
    trained: Project, tmp_path: Path
) -> None:
    before = trained.models()
    other = trained.copy(tmp_path / "other")
    other.forget(*other.shard(0).ids[:60])
    other.stages("partition")
    shard, plan = trained.shard(0), load_plan(trained.workspace.plan_file(0))
    shutil.copy(other.workspace.shard_file(0), tmp_path / "new.npy")
    (tmp_path / "new.npy").replace(trained.workspace.shard_file(0))
    # What the trainer opened stays what it reads, to the pixels.
    assert len(shard.checked_images()) == sum(plan.samples)
    assert make_plan(trained.workspace.read_params(), 0, 10, "none", shard) == plan
    with pytest.raises(StalePlanError, match="made for other samples"):
        train_shard(trained.workspace, 0)
    trained.stages("partition", "schedule", "train", "assemble")
    assert trained.models() == before


def test_code_that_changed_after_the_plan_was_made_trains_nothing(create: Create) -> None:
    project = create("project", **SLOW)
    for stage in ("partition", "schedule"):
        project.stage(stage)
    path = project.folder / "training/recipe/network/resnet9.py"
    code = path.read_text()
    with project.start(sys.executable, "-X", "importtime", "-m", "training.stages.train", "--shard", "0") as trainer:
        assert trainer.stdout is not None
        for line in trainer.stdout:
            if "training.engine.serial" in line:  # the plan is about to be checked, and then torch imported
                path.write_text(code.replace("Scale(0.125)", "Scale(0.5)"))
                break
        out = trainer.stdout.read()
    assert trainer.returncode == 1, out
    assert "was made for other" in out
    assert checkpoints(project) == []


@pytest.mark.heavy
def test_a_lost_lock_file_costs_no_training(reproduced: Project) -> None:
    before = reproduced.models()
    (reproduced.folder / "dvc.lock").unlink()
    out = reproduced.run("dvc", "repro").stdout
    assert out.count("every checkpoint is valid, nothing to train") == 3
    assert reproduced.models() == before


@pytest.mark.heavy
def test_the_second_of_two_trainers_waits_for_the_first(create: Create, undisturbed: dict[str, bytes | str]) -> None:
    project = create("project", **SLOW)
    for stage in ("partition", "schedule"):
        project.stage(stage)
    first = project.start(sys.executable, "-m", "training.stages.train", "--shard", "0")
    wait_for(lambda: checkpoints(project), "the first checkpoint")
    second = output_after_waiting_for(
        first.pid, lambda: project.start(sys.executable, "-m", "training.stages.train", "--shard", "0")
    )
    assert "nothing to train" in second
    out, _ = first.communicate(timeout=120)
    assert "trained slices 0 to 2" in out
    assert {path: content for path, content in undisturbed.items() if "checkpoints" in path} == project.checkpoints()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.heavy
def test_a_full_disk_says_so_and_loses_nothing(
    create: Create, small_disk: Path, undisturbed: dict[str, bytes | str]
) -> None:
    project = create("project", **SLOW).with_git()
    # Room for two checkpoints of 1.7 MB, not for the third.
    target = project.folder / "models/checkpoints/block-0/shard-0"
    target.mkdir(parents=True)
    bind = subprocess.run(["mount", "--bind", str(small_disk), str(target)], check=False)
    assert bind.returncode == 0
    try:
        done = project.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert "error: the disk is full" in done.stderr
        assert "free some space, and run the same again (of a stage: `dvc repro`)" in done.stderr
        assert [path.name[:8] for path in sorted(target.iterdir())] == ["slice-00", "slice-01"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert "trained slice 2 in" in project.run("dvc", "repro").stdout
        assert project.models() == undisturbed
    finally:
        subprocess.run(["umount", str(target)], check=True)
