"""The shard store: the retained samples of one shard and nothing else, as ``data/shards/shard-K.npy``.

A file is one array of rows, a sample each, that is opened memory-mapped: no function here holds more than a few
images at a time. Its bytes depend on the samples alone. training/data/writing.py writes it.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.prints import PRINTS, Prints
from training.errors import DamagedError

Image = NDArray[np.uint8]  # (H, W, 3), RGB
CHUNK_BYTES = 16 * 2**20  # read at a time when pixels are checked


class Decoded(NamedTuple):
    """An image, and the prints of the picture that it was made of."""

    image: Image
    prints: Prints


@dataclass(frozen=True)
class Shard:
    """Retained samples, sorted by slice, then id, so that the union of slices 0..r is a prefix.

    ``rows``: (N,) structured, memory-mapped and read-only: the file as it was opened, whatever takes its
    place meanwhile. The properties below are views or small copies: ``ids`` (N,) str, ``slices`` and
    ``labels`` (N,) int64, ``images`` (N, H, W, 3) uint8, ``digests`` and ``fingerprints`` (N,) 32 bytes; a
    digest is the SHA-256 of an image's pixels. ``prints``: (N,) of type PRINTS, those of the pictures; zeros in a
    file of version 0.2.0.
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

    @property
    def prints(self) -> NDArray[np.void]:
        return np.array(self.rows["prints"]) if self.has_prints else np.zeros(len(self), PRINTS)

    @property
    def has_prints(self) -> bool:
        return "prints" in (self.rows.dtype.names or ())

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


def row_type(side: int, longest_id: int, prints: bool = True) -> np.dtype[np.void]:
    """A row of the file: images of ``side`` × ``side``, ids of at most ``longest_id`` bytes.

    Version 0.2.0 wrote no ``prints``; partition writes such a file anew.
    """
    return np.dtype(
        [
            ("id", np.dtype((np.bytes_, max(1, longest_id)))),
            ("slice", "<i8"),
            ("label", "<i8"),
            ("fingerprint", "u1", 32),
            ("digest", "u1", 32),
            *([("prints", PRINTS)] if prints else []),
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
        kinds = [row_type(side, dtype["id"].itemsize, prints) for prints in (True, False)] if side else []
        if len(shape) != 1 or dtype not in kinds:
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


def readable_shards(folder: Path) -> Iterator[Shard]:
    """Every shard file in ``folder`` that can be read, by name. What another one held cannot be told."""
    for path in sorted(folder.glob("shard-*.npy")):
        try:
            shard = load_shard(path)
        except DamagedError:
            continue
        yield shard


def load_checked(path: Path) -> Shard:
    """``load_shard``, every image of it checked. Raises DamagedError as both do."""
    shard = load_shard(path)
    shard.check()
    return shard


def is_sound(row: np.void) -> bool:
    """Whether a row's pixels are what its digest says."""
    sound: bool = hashlib.sha256(row["image"].tobytes()).digest() == row["digest"].tobytes()
    return sound
