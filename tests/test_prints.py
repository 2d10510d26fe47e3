"""What a picture is known by, whatever its name: its file, its pixels, its look."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from training.data.imagefolder import read_picture
from training.data.prints import NOTHING, PRINTS, Prints, cell_sums, grey_cells, look_of, near, take_prints
from training.data.store import row_type


def photograph(number: int = 0, top: int = 100, left: int = 200, side: int = 160) -> NDArray[np.uint8]:
    """A part of one of the two photographs that come with scikit-learn."""
    picture: NDArray[np.uint8] = load_sample_images().images[number]
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def saved(picture: NDArray[np.uint8], kind: str, **options: Any) -> NDArray[np.uint8]:
    """The picture after it was stored as a file and read again."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def differing(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Bits in which two looks differ; both have one."""
    looks = [look_of(picture) for picture in (one, other)]
    assert NOTHING not in looks
    return (int.from_bytes(looks[0]) ^ int.from_bytes(looks[1])).bit_count()


def array(*looks: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(looks), np.uint8).reshape(-1, 32)


CONVERSIONS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "png": lambda picture: saved(picture, "PNG"),
    "jpeg 95": lambda picture: saved(picture, "JPEG", quality=95),
    "jpeg 50": lambda picture: saved(picture, "JPEG", quality=50),
    "webp 50": lambda picture: saved(picture, "WEBP", quality=50),
    "jpeg 75, then webp 75": lambda picture: saved(saved(picture, "JPEG", quality=75), "WEBP", quality=75),
    "half the size": lambda picture: resized(picture, 80),
    "36 pixels a side": lambda picture: resized(picture, 36),
    "three times the size": lambda picture: resized(picture, 480),
    "two pixels off each side": lambda picture: picture[2:-2, 2:-2],
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("number", [0, 1])
def test_a_converted_picture_looks_as_before(number: int, conversion: str) -> None:
    picture = photograph(number)
    converted = CONVERSIONS[conversion](picture)
    assert near(array(look_of(converted)), array(look_of(picture))).tolist() == [[0, 0]]


def test_other_pictures_look_different() -> None:
    parts = [photograph(number, top, left) for number in (0, 1) for top in (100, 260) for left in (0, 200, 400)]
    distances = [differing(one, other) for index, one in enumerate(parts) for other in parts[:index]]
    assert len(distances) == 66
    assert min(distances) > 80  # twice what is near


def test_near_counts_bits_and_40_are_near() -> None:
    look = np.full(32, 0b10101010, np.uint8)
    forty, more = look.copy(), look.copy()
    forty[:5] ^= 0xFF
    more[:5] ^= 0xFF
    more[31] ^= 1
    assert near(look[None], np.stack([more, forty, look, more])).tolist() == [[0, 1], [0, 2]]


def test_a_picture_without_a_look_is_near_to_none() -> None:
    nothing = array(NOTHING, NOTHING)
    assert near(nothing[:1], nothing).tolist() == []
    assert near(np.eye(1, 32, dtype=np.uint8), nothing).tolist() == []  # one bit away


@pytest.mark.parametrize("side", [8, 31])
def test_a_picture_of_fewer_than_32_pixels_a_side_has_no_look(side: int) -> None:
    assert look_of(resized(photograph(), side)) == NOTHING
    assert look_of(resized(photograph(), 32)) != NOTHING


def test_pictures_without_detail_have_no_look() -> None:
    across = np.linspace(0, 255, 200)
    gradients = [
        np.repeat(np.tile(across, (100, 1))[..., None], 3, axis=2),
        across[:, None, None] * np.ones((1, 64, 3)),
    ]
    pictures = [np.zeros((100, 100, 3)), np.full((50, 200, 3), 255.0), *gradients]
    assert [look_of(picture.astype(np.uint8)) for picture in pictures] == [NOTHING] * 4


@given(st.integers(32, 90), st.integers(32, 90), st.integers(0, 2**32 - 1))
def test_cells_are_exact_means_also_where_borders_cut_pixels(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert cell_sums(pixels).sum() == 32 * pixels.sum(dtype=np.int64)
    # Every pixel 32 × 32 times as large: then each cell is a whole number of pixels, as many as the picture has.
    grey = (pixels @ np.array([77, 150, 29])).repeat(32, axis=0).repeat(32, axis=1)
    means = grey.reshape(32, height, 32, width).sum(axis=(1, 3)) // (height * width)
    assert np.array_equal(grey_cells(pixels), means)


def test_a_look_is_the_same_everywhere_and_for_ever() -> None:
    rows, columns, channels = np.indices((40, 50, 3))
    picture = ((rows * rows * 7 + columns * 13 + rows * columns * (channels + 1)) % 256).astype(np.uint8)
    assert look_of(picture).hex() == "0080000008004001820803106230008842c40000e8e155edc23a43517671bce9"


def test_pixels_are_the_same_however_they_are_stored(tmp_path: Path) -> None:
    picture = Image.fromarray(photograph()[:, :90])
    turned = Image.Exif()
    turned[0x0112] = 6  # to be seen, it is turned by 90° clockwise
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.webp", lossless=True)
    picture.save(tmp_path / "c.bmp")
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "d.png", exif=turned)
    prints = [read_picture(tmp_path / name, 8).prints for name in ("a.png", "b.webp", "c.bmp", "d.png")]
    assert len({each.upright for each in prints}) == len({each.look for each in prints}) == 1
    assert len({each.content for each in prints}) == 4
    assert prints[0].content == hashlib.sha256((tmp_path / "a.png").read_bytes()).digest()
    assert read_picture(tmp_path / "a.png", 64).prints == prints[0]  # whatever the images' size


def test_the_same_bytes_in_another_shape_are_another_picture() -> None:
    picture = photograph()
    assert take_prints(b"", picture).upright != take_prints(b"", picture.reshape(80, 320, 3)).upright


def test_shard_files_without_prints_are_written_again_and_nothing_is_trained_again(
    trained: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [*(trained.workspace.shard_file(shard_id) for shard_id in range(3)), trained.workspace.test_file]
    for path in files:
        rows = np.load(path)
        old = np.dtype(
            [(name, *rows.dtype.descr[at][1:]) for at, name in enumerate(rows.dtype.names) if name != "prints"]
        )
        without = np.zeros(len(rows), old)
        for name in old.names or ():
            without[name] = rows[name]
        np.save(path, without)
    before, checkpoints = trained.models(), trained.checkpoints()
    written = {path: path.stat().st_mtime_ns for path in trained.workspace.checkpoints_folder.rglob("*.safetensors")}
    trained.stages("partition", "schedule", "train", "assemble")
    assert "pictures decoded" in capsys.readouterr().out
    assert [np.load(path).dtype["prints"] for path in files] == [PRINTS] * 4
    assert trained.checkpoints() == checkpoints
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert {path for path, content in trained.models().items() if before[path] != content} == {
        f"data/shards/shard-{shard_id}.npy" for shard_id in range(3)
    }


def test_a_row_holds_the_prints_of_its_picture(trained: Project) -> None:
    assert row_type(8, 4)["prints"] == PRINTS
    shard = trained.shard(1)
    for row, image in zip(shard.prints, shard.images, strict=True):  # digits of 8 × 8: the image is the picture
        assert tuple(row[name].tobytes() for name in Prints._fields) == take_prints(
            hashlib.sha256(image.tobytes()).digest(), image
        )
