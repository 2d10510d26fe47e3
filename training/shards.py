"""The shard file: the retained samples of one shard and nothing else, as ``data/shards/shard-K.npz``."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.files import npz_bytes
from training.stage import StageError


@dataclass(frozen=True)
class Shard:
    """Retained samples, sorted by slice, then id, so that the union of slices 0..r is a prefix.

    ``ids``: (N,) str. ``slices``: (N,) int64 in [0, R). ``images``: (N, H, W, 3) uint8.
    ``labels``: (N,) int64. ``fingerprints``: (N,) str, what each picture was decoded from.
    """

    ids: NDArray[np.str_]
    slices: NDArray[np.int64]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    fingerprints: NDArray[np.str_]

    def union_size(self, slice_id: int) -> int:
        """Number of samples in slices 0..``slice_id``."""
        return int(np.searchsorted(self.slices, slice_id, side="right"))

    def to_bytes(self) -> bytes:
        return npz_bytes(vars(self))


def load_shard(path: Path) -> Shard:
    """Read a shard file, checking every byte against the archive's checksums.

    Raises StageError when it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Shard(**{name: arrays[name] for name in Shard.__dataclass_fields__})
    except FileNotFoundError:
        raise StageError(f"{path} is missing; run `dvc repro`") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StageError(f"{path} is damaged ({error}); run `dvc repro partition`") from error
