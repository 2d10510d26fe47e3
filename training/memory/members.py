"""The members index, ``.sisa/members/SHA256.npy``: what each published model was trained on.

Which shard a sample is placed in today need not be that of what is served: parameters may have changed since. So each
published model has a table of its own, of digests under the workspace's secret, with the slice: whether it saw a
sample is looked up, not derived. It is what a withdrawal goes by, which must not wait for a picture to be opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import MemoryLostError
from training.files import replacing
from training.memory.secret import DIGEST_BYTES, Secret
from training.memory.suppressed import Suppressed

PARTS = ("id", "content", "upright")  # under the secret
ROW = np.dtype([*((part, "u1", DIGEST_BYTES) for part in PARTS), ("look", "u1", 32), ("slice", "<u2")])


@dataclass(frozen=True)
class Members:
    """``rows``: (N,) of ``ROW``, a sample each; zeros for what is not known of it, or a picture without a look."""

    rows: NDArray[np.void]

    @cached_property
    def positions(self) -> dict[bytes, int]:
        """By the digest of its id, the row of every sample."""
        return {row.tobytes(): position for position, row in enumerate(self.rows["id"])}

    @cached_property
    def slices(self) -> dict[bytes, int]:
        """By the digest of its id, the slice of every sample."""
        return dict(zip(self.positions, self.rows["slice"].tolist(), strict=True))

    def suppressed(self, digest: bytes) -> Suppressed:
        """A sample, by the digest of its id, as the suppression memory takes it."""
        row = self.rows[self.positions[digest]]
        return Suppressed(**{part: row[part].tobytes().hex() for part in (*PARTS, "look") if row[part].any()})

    def of_content(self, content: str) -> list[bytes]:
        """The digests of the ids of all samples of this file; ``content``: its digest under the secret, in hex."""
        same = (self.rows["content"] == np.frombuffer(bytes.fromhex(content), np.uint8)).all(axis=1)
        return [row.tobytes() for row in self.rows["id"][same]]

    def up_to(self, slice_id: int) -> Members:
        """What the checkpoint after this slice was trained on."""
        return Members(self.rows[self.rows["slice"] <= slice_id])


def make_members(
    secret: Secret, ids: Sequence[str], slices: Sequence[int], prints: NDArray[np.void] | None = None
) -> Members:
    """The table of these samples, each with its slice.

    ``prints``: (N,) with the fields ``content``, ``upright`` and ``look``, 32 bytes each, zeros for what is not known.
    """
    rows = np.zeros(len(ids), ROW)
    rows["id"] = joined(secret.of_id(sample_id) for sample_id in ids)
    rows["slice"] = slices
    if prints is not None and len(prints):
        rows["look"] = prints["look"]
        for part in PARTS[1:]:
            rows[part] = joined(secret.of_print(part, row.tobytes()) for row in prints[part])
            rows[part][~prints[part].any(axis=1)] = 0
    return Members(rows)


def joined(digests: Iterable[bytes]) -> NDArray[np.uint8]:
    """(N, 16)."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def write_members(path: Path, members: Members) -> None:
    with replacing(path, mode=0o600) as file:
        np.save(file, members.rows, allow_pickle=False)


def read_members(path: Path) -> Members:
    """Raises MemoryLostError when the table is damaged, FileNotFoundError when there is none."""
    try:
        rows = np.load(path, allow_pickle=False)
        if rows.dtype != ROW or rows.ndim != 1:
            raise ValueError(f"rows of {rows.dtype}, expected {ROW}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise MemoryLostError(
            f"{path} is damaged ({error}): it says what a published model was trained on. Restore it from a backup of "
            ".sisa/, or delete it: while the shard file is the one that the model was trained on, it is written again"
        ) from error
    return Members(rows)


def read_all(folder: Path) -> dict[str, Members]:
    """Every table, by the hex SHA-256 of its model's file. Raises MemoryLostError when one is damaged."""
    return {path.stem: read_members(path) for path in sorted(folder.glob("*.npy")) if not path.name.startswith(".")}
