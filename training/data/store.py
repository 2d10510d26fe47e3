"""The shard store: the retained samples of one shard and nothing else, as ``data/shards/shard-K.npy``.

A file is one array of rows, a sample each, that is opened memory-mapped and written row by row: no
function here holds more than a few images at a time. Its bytes depend on the samples alone.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import DamagedError
from training.files import replacing

Image = NDArray[np.uint8]  # (H, W, 3), RGB
CHUNK_BYTES = 16 * 2**20  # read at a time when pixels are checked


@dataclass(frozen=True)
class Row:
    """A sample as the store is to hold it; ``fingerprint``: 32 bytes, what its image is decoded from, and how."""

    sample_id: str
    slice_id: int
    label: int
    fingerprint: bytes
    decode: Callable[[], Image]


@dataclass(frozen=True)
class Shard:
    """Retained samples, sorted by slice, then id, so that the union of slices 0..r is a prefix.

    ``rows``: (N,) structured, memory-mapped and read-only: the file as it was opened, whatever takes its
    place meanwhile. The properties below are views or small copies: ``ids`` (N,) str, ``slices`` and
    ``labels`` (N,) int64, ``images`` (N, H, W, 3) uint8, ``digests`` and ``fingerprints`` (N,) 32 bytes; a
    digest is the SHA-256 of an image's pixels.
    """

    path: Path
    rows: NDArray[np.void]
    mapping: mmap.mmap | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        return [sample_id.decode(errors="replace") for sample_id in self.rows["id"].tolist()]

    @property
    def slices(self) -> NDArray[np.int64]:
        return np.array(self.rows["slice"])

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array(self.rows["label"])

    @property
    def images(self) -> NDArray[np.uint8]:
        """Index it, or copy what is needed."""
        images: NDArray[np.uint8] = self.rows["image"]
        return images

    @property
    def digests(self) -> list[bytes]:
        return [digest.tobytes() for digest in self.rows["digest"]]

    @property
    def fingerprints(self) -> list[bytes]:
        return [fingerprint.tobytes() for fingerprint in self.rows["fingerprint"]]

    def chunks(self) -> Iterator[NDArray[np.void]]:
        """All rows, some at a time; pages that were read are given back, or they would count as memory."""
        size = max(1, CHUNK_BYTES // self.rows.itemsize)
        for start in range(0, len(self), size):
            yield self.rows[start : start + size]
            self.release_pages()

    def release_pages(self) -> None:
        """Tell the system that what was read of the file need not stay in memory."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)

    def check(self) -> None:
        """Raise DamagedError when an image is not what its digest says."""
        for rows in self.chunks():
            for row in rows:
                if not is_sound(row):
                    name = row["id"].decode(errors="replace")
                    raise DamagedError(f"{self.path} is damaged (the image of {name!r} is not what its digest says)")

    def checked_images(self) -> NDArray[np.uint8]:
        """(N, H, W, 3) uint8 in memory, after ``check``."""
        self.check()
        return np.ascontiguousarray(self.images)


def row_type(side: int, longest_id: int) -> np.dtype[np.void]:
    """A row of the file: images of ``side`` × ``side``, ids of at most ``longest_id`` bytes."""
    return np.dtype(
        [
            ("id", np.dtype((np.bytes_, max(1, longest_id)))),
            ("slice", "<i8"),
            ("label", "<i8"),
            ("fingerprint", "u1", 32),
            ("digest", "u1", 32),
            ("image", "u1", (side, side, 3)),
        ]
    )


def load_shard(path: Path) -> Shard:
    """Open a shard file without reading its pixels. Raises DamagedError when it is missing or not one."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        side = dtype["image"].shape[0] if dtype.names and "image" in dtype.names else 0
        if len(shape) != 1 or not side or dtype != row_type(side, dtype["id"].itemsize):
            raise ValueError("not an array of samples")
        if len(content) != offset + shape[0] * dtype.itemsize:
            raise ValueError(f"{len(content)} bytes, expected {offset + shape[0] * dtype.itemsize}")
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
    if hasattr(mmap, "MADV_RANDOM"):
        # Ids and labels lie among the pixels: without this the system reads those as well, to be ahead.
        content.madvise(mmap.MADV_RANDOM)
    rows = np.frombuffer(content, dtype, shape[0], offset) if shape[0] else np.empty(0, dtype)
    return Shard(path, rows, content)


def load_checked(path: Path) -> Shard:
    """``load_shard``, every image of it checked. Raises DamagedError as both do."""
    shard = load_shard(path)
    shard.check()
    return shard


@dataclass(frozen=True)
class Held:
    """What a shard file holds but for its pixels; ``sound``: whether they are what their digest says."""

    names: list[tuple[str, int, int, bytes]]  # id, slice, label, fingerprint
    sound: list[bool]


def write_shard(path: Path, rows: Sequence[Row], side: int) -> int | None:
    """Make ``path`` hold exactly these rows; None when it does already, else how many images were decoded.

    An image that the file holds under the same id and fingerprint is copied, not decoded again.
    Raises what decoding raises; the file is then as it was.
    """
    before = readable(path, side)
    held = Held([], []) if before is None else survey(before)
    wanted = [(row.sample_id, row.slice_id, row.label, row.fingerprint) for row in rows]
    if before is not None and wanted == held.names and all(held.sound):
        return None
    known = {(name[0], name[3]): index for index, name in enumerate(held.names) if held.sound[index]}
    dtype = row_type(side, max((len(row.sample_id.encode()) for row in rows), default=0))
    decoded = written = 0
    with replacing(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(rows),)}
        np.lib.format.write_array_header_1_0(file, header)
        for row in tqdm(rows, desc=path.stem, unit="picture", leave=False, disable=None):
            index = known.get((row.sample_id, row.fingerprint))
            if before is None or index is None:
                image, decoded = row.decode(), decoded + 1
            else:
                image = before.images[index]
            file.write(record_of(row, image, dtype))
            written += dtype.itemsize
            if before is not None and written > CHUNK_BYTES:
                before.release_pages()
                written = 0
    return decoded


def record_of(row: Row, image: Image, dtype: np.dtype[np.void]) -> bytes:
    """A row of the file."""
    record = np.zeros((), dtype)
    record["id"], record["slice"], record["label"] = row.sample_id.encode(), row.slice_id, row.label
    record["fingerprint"] = np.frombuffer(row.fingerprint, np.uint8)
    record["digest"] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8)
    record["image"] = image
    return record.tobytes()


def survey(shard: Shard) -> Held:
    """All that a file holds but for its pixels, which are checked; it is read once, from end to end."""
    names, sound = [], []
    for rows in shard.chunks():
        for row in rows:
            name = row["id"].decode(errors="replace")
            names.append((name, int(row["slice"]), int(row["label"]), row["fingerprint"].tobytes()))
            sound.append(is_sound(row))
    return Held(names, sound)


def is_sound(row: np.void) -> bool:
    """Whether a row's pixels are what its digest says."""
    sound: bool = hashlib.sha256(row["image"].tobytes()).digest() == row["digest"].tobytes()
    return sound


def readable(path: Path, side: int) -> Shard | None:
    """The shard file if it is there, is one, and holds images of ``side`` × ``side``."""
    try:
        shard = load_shard(path)
    except DamagedError:
        return None
    return shard if shard.images.shape[1:] == (side, side, 3) else None
