"""Writes the shard store, row by row: what a file holds already is copied, and only the rest is decoded."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.prints import PRINTS
from training.data.store import CHUNK_BYTES, Decoded, Image, Shard, is_sound, load_shard, row_type
from training.errors import DamagedError
from training.files import Draft, drafting

WORKERS = min(4, os.cpu_count() or 1)  # threads that decode: decoders and hashes run outside of Python's lock


@dataclass(frozen=True)
class Row:
    """A sample as the store is to hold it; ``fingerprint``: 32 bytes, what its image is decoded from, and how."""

    sample_id: str
    slice_id: int
    label: int
    fingerprint: bytes
    decode: Callable[[], Decoded]


@dataclass(frozen=True)
class Held:
    """What a shard file holds but for its pixels; ``sound``: whether they are what their digest says."""

    names: list[tuple[str, int, int, bytes]]  # id, slice, label, fingerprint
    sound: list[bool]
    prints: NDArray[np.void]  # (N,), of type PRINTS


@dataclass(frozen=True)
class Written:
    """A shard file's content, complete. ``draft``: what still has to be put in its place; None when it stands there.

    ``decoded``: how many images were decoded for it. ``prints``: (N,) of type PRINTS.
    """

    draft: Draft | None
    decoded: int
    prints: NDArray[np.void]


def write_shard(path: Path, rows: Sequence[Row], side: int) -> int | None:
    """Make ``path`` hold exactly these rows; None when it does already, else how many images were decoded.

    Raises what decoding raises; the file is then as it was.
    """
    written = draft_shard(path, rows, side)
    if written.draft is None:
        return None
    written.draft.put()
    return written.decoded


def draft_shard(path: Path, rows: Sequence[Row], side: int, also: Path | None = None) -> Written:
    """Write what is to stand at ``path``, unless it does already.

    An image that the file, or the one at ``also``, holds under the same id and fingerprint is copied, with its
    prints, not decoded again. Raises what decoding raises; nothing is left of the draft then.
    """
    found = [readable(path, side), None if also is None else readable(also, side)]
    sources = [(shard, survey(shard)) for shard in found if shard is not None]
    wanted = [(row.sample_id, row.slice_id, row.label, row.fingerprint) for row in rows]
    for shard, held in sources:
        if shard.path == path and wanted == held.names and all(held.sound):
            return Written(None, 0, held.prints)
    known = {
        (name[0], name[3]): (shard.images[index], held.prints[index])
        for shard, held in sources
        for index, name in enumerate(held.names)
        if held.sound[index]
    }
    dtype = row_type(side, max((len(row.sample_id.encode()) for row in rows), default=0))
    prints = np.zeros(len(rows), PRINTS)
    decoded = written = 0
    fresh = [row for row in rows if (row.sample_id, row.fingerprint) not in known]
    with drafting(path) as (file, draft), closing(decode_ahead(fresh)) as ahead:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(rows),)}
        np.lib.format.write_array_header_1_0(file, header)
        for number, row in enumerate(tqdm(rows, desc=path.stem, unit="picture", leave=False, disable=None)):
            if (row.sample_id, row.fingerprint) in known:
                image, prints[number] = known[row.sample_id, row.fingerprint]
            else:
                made, decoded = next(ahead), decoded + 1
                image, prints[number] = made.image, tuple(np.frombuffer(one, np.uint8) for one in made.prints)
            file.write(record_of(row, image, prints[number], dtype))
            written += dtype.itemsize
            if written > CHUNK_BYTES:
                for shard, _ in sources:
                    shard.release_pages()
                written = 0
    return Written(draft, decoded, prints)


def decode_ahead(rows: Iterable[Row]) -> Generator[Decoded, None, None]:
    """What each row decodes to, in their order; a few are decoded at a time, side by side."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[Decoded]] = deque()
        for row in rows:
            waiting.append(pool.submit(row.decode))
            if len(waiting) > 2 * WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def record_of(row: Row, image: Image, prints: np.void, dtype: np.dtype[np.void]) -> bytes:
    """A row of the file."""
    record = np.zeros((), dtype)
    record["id"], record["slice"], record["label"] = row.sample_id.encode(), row.slice_id, row.label
    record["fingerprint"] = np.frombuffer(row.fingerprint, np.uint8)
    record["digest"] = np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8)
    record["prints"], record["image"] = prints, image
    return record.tobytes()


def survey(shard: Shard) -> Held:
    """All that a file holds but for its pixels, which are checked; it is read once, from end to end."""
    held = Held([], [], np.zeros(len(shard), PRINTS))
    for rows in shard.chunks():
        held.prints[len(held.names) : len(held.names) + len(rows)] = rows["prints"]
        for row in rows:
            name = row["id"].decode(errors="replace")
            held.names.append((name, int(row["slice"]), int(row["label"]), row["fingerprint"].tobytes()))
            held.sound.append(is_sound(row))
    return held


def readable(path: Path, side: int) -> Shard | None:
    """The shard file if it is there, is one, and holds images of ``side`` × ``side``, with prints."""
    try:
        shard = load_shard(path)
    except DamagedError:
        return None
    return shard if shard.images.shape[1:] == (side, side, 3) and shard.has_prints else None
