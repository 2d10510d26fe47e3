"""Checkpoints: whole, one's own, and the same bytes for the same training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.chain.checkpoints import CheckpointError, Record, load_checkpoint, save_checkpoint
from training.files import write_atomic

WEIGHTS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(3)}
RECORD = Record(
    key="abc",
    recipe="r",
    shard=0,
    slice_id=0,
    samples=9,
    sample_epochs=18,
    losses=(0.5,),
    environment={"torch": "2"},
    seconds=1.5,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "slice-00-abc.safetensors"
    save_checkpoint(file, WEIGHTS, RECORD)
    return file


def test_weights_and_record_come_back(path: Path) -> None:
    checkpoint = load_checkpoint(path, "abc")
    assert all((checkpoint.weights[name] == WEIGHTS[name]).all() for name in WEIGHTS)
    assert checkpoint.weights["steps"].shape == ()
    assert checkpoint.record == RECORD


def test_the_content_is_the_same_whatever_the_seconds_and_another_for_anything_else(path: Path) -> None:
    content = load_checkpoint(path, "abc").content
    save_checkpoint(path, WEIGHTS, RECORD.model_copy(update={"seconds": 99.0}))
    assert load_checkpoint(path, "abc").content == content
    save_checkpoint(path, WEIGHTS, RECORD.model_copy(update={"samples": 10}))
    assert load_checkpoint(path, "abc").content != content
    save_checkpoint(path, {**WEIGHTS, "steps": np.array(4)}, RECORD)
    assert load_checkpoint(path, "abc").content != content


def test_equal_weights_give_equal_bytes_in_another_process(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from test_checkpoints import RECORD, WEIGHTS, save_checkpoint\n"
        "save_checkpoint(Path(sys.argv[1]), dict(reversed(WEIGHTS.items())), RECORD)"
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
