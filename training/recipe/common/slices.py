"""What training a slice comes to, and which samples a slice trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = Mapping[str, NDArray[Any]]  # weights and statistics by name


@dataclass(frozen=True)
class TrainedSlice:
    """The result of training one slice. ``samples``: of slices 0..``slice_id`` together. ``seconds``: its time."""

    slice_id: int
    state: State
    losses: list[float]
    samples: int
    sample_epochs: int
    seconds: float


def union_size(slices: NDArray[np.int64], slice_id: int) -> int:
    """Number of samples in slices 0..``slice_id``; ``slices``: (N,) rising, the slice of each sample."""
    return int(np.searchsorted(slices, slice_id, side="right"))
