import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.checkpoints import CheckpointError, load_checkpoint, save_checkpoint, shard_lock
from training.files import write_atomic

STATE = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(3)}
RECORD = {"key": "abc", "losses": [0.5]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "slice-00-abc.safetensors"
    save_checkpoint(file, STATE, RECORD)
    return file


def test_weights_and_metadata_come_back(path: Path) -> None:
    state, record = load_checkpoint(path, "abc")
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)
    assert record["losses"] == [0.5]


def test_equal_weights_give_equal_bytes_in_another_process(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from test_checkpoints import RECORD, STATE, save_checkpoint\n"
        "save_checkpoint(Path(sys.argv[1]), dict(reversed(STATE.items())), dict(reversed(RECORD.items())))"
    )
    other = path.with_name("other")
    subprocess.run([sys.executable, "-c", program, str(other)], check=True, cwd=Path(__file__).parents[1])
    assert other.read_bytes() == path.read_bytes()


def test_a_checkpoint_of_another_key_is_refused_whatever_its_name(path: Path) -> None:
    with pytest.raises(CheckpointError, match="carries the key abc, expected xyz"):
        load_checkpoint(path, "xyz")


def test_every_flipped_byte_is_found(path: Path) -> None:
    content = path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            load_checkpoint(path, "abc")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_found(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path, "abc")


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is missing"):
        load_checkpoint(tmp_path / "none.safetensors", "abc")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_for_one_process_and_let_go_when_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from training.checkpoints import shard_lock
with shard_lock(3):
    print("held", flush=True)
    time.sleep(1)
    os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with shard_lock(4):
            pass  # another shard is free
        assert capsys.readouterr().out == ""
        with shard_lock(3):
            assert holder.wait() == -9
        assert f"shard 3: waiting for process {holder.pid}, which is training it" in capsys.readouterr().out
