"""The shard store: deterministic bytes, read by row, damage found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.data.prints import Prints
from training.data.store import Decoded, is_sound, load_shard, row_type
from training.data.writing import Row, write_shard
from training.errors import DamagedError


def image_of(number: int, side: int = 4) -> NDArray[np.uint8]:
    return np.full((side, side, 3), number, np.uint8)


def row(name: str, number: int = 7, slice_id: int = 0, label: int = 1, side: int = 4) -> Row:
    fingerprint = hashlib.sha256(f"{name} {number}".encode()).digest()
    return Row(name, slice_id, label, fingerprint, lambda: Decoded(image_of(number, side), prints_of(name)))


def prints_of(name: str) -> Prints:
    return Prints(*(hashlib.sha256(f"{kind} of {name}".encode()).digest() for kind in ("content", "upright", "look")))


def not_decoded() -> Decoded:
    raise AssertionError("this image was held already")


def held(of: Row) -> Row:
    return Row(of.sample_id, of.slice_id, of.label, of.fingerprint, not_decoded)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.npy"
    assert write_shard(path, [row("a", 1, 0, 2), row("größer/b.png", 2, 3, 5)], 4) == 2
    shard = load_shard(path)
    assert len(shard) == 2
    assert shard.ids == ["a", "größer/b.png"]
    assert (shard.slices.tolist(), shard.labels.tolist()) == ([0, 3], [2, 5])
    assert shard.images.shape == (2, 4, 4, 3)
    assert shard.checked_images().tolist() == [image_of(1).tolist(), image_of(2).tolist()]
    assert shard.digests[0] == hashlib.sha256(bytes([1] * 48)).digest()
    assert [each.tobytes() for each in shard.prints[1]] == list(prints_of("größer/b.png"))


def test_the_same_rows_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.npy"
    rows = [row("a"), row("b")]
    write_shard(path, rows, 4)
    before = path.stat().st_ino
    assert write_shard(path, [held(each) for each in rows], 4) is None
    assert path.stat().st_ino == before
    write_shard(path, [], 4)
    empty = path.stat().st_ino
    assert write_shard(path, [], 4) is None
    assert path.stat().st_ino == empty


def test_a_row_that_is_held_is_copied_and_the_bytes_are_those_of_a_fresh_file(tmp_path: Path) -> None:
    path, fresh = tmp_path / "shard-0.npy", tmp_path / "fresh.npy"
    a, b, c = row("a", 1), row("b", 2), row("a-longer-name", 3)
    write_shard(path, [a, b], 4)
    assert write_shard(path, [c, held(b)], 4) == 1
    write_shard(fresh, [c, b], 4)
    assert path.read_bytes() == fresh.read_bytes()


def test_a_changed_fingerprint_or_size_is_decoded_again(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.npy"
    write_shard(path, [row("a", 1)], 4)
    assert write_shard(path, [row("a", 2)], 4) == 1
    assert write_shard(path, [row("a", 2, side=8)], 8) == 1
    assert load_shard(path).images.shape == (1, 8, 8, 3)


@given(st.integers(0, 47), st.integers(0, 1), st.integers(1, 255))
def test_a_damaged_pixel_is_found_and_rebuilt(pixel: int, number: int, flip: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard-0.npy"
        rows = [row("a", 1), row("b", 2)]
        write_shard(path, rows, 4)
        sound = path.read_bytes()
        size = row_type(4, 1).itemsize
        damaged = bytearray(sound)
        damaged[len(sound) - (2 - number) * size + size - 48 + pixel] ^= flip
        path.write_bytes(damaged)
        shard = load_shard(path)
        assert [is_sound(row) for row in shard.rows] == [number != 0, number != 1]
        with pytest.raises(DamagedError, match=f"the image of '{'ab'[number]}' is not what its digest says"):
            shard.checked_images()
        assert write_shard(path, rows, 4) == 1
        assert path.read_bytes() == sound


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_that_was_cut_short_is_found(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "shard-0.npy"
    write_shard(path, [row("a")], 4)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedError, match=r"shard-0\.npy is damaged"):
        load_shard(path)


def test_another_array_is_not_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(DamagedError, match="not an array of samples"):
        load_shard(path)
    with pytest.raises(DamagedError, match="is missing"):
        load_shard(tmp_path / "none.npy")


def test_a_decoder_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.npy"
    write_shard(path, [row("a")], 4)
    before = path.read_bytes()
    bad = row("b")
    with pytest.raises(AssertionError):
        write_shard(path, [row("a"), held(bad)], 4)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
