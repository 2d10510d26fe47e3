"""What an engine asks of whatever trains: from a shard's inputs to the weights of its slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.chain.checkpoints import Arrays
from training.recipe.common.slices import TrainedSlice

Environment = Mapping[str, str | int | None]


class Trainer(Protocol):
    """``environment``: what the bits of its results depend on beside the recipe and the samples."""

    @property
    def environment(self) -> Environment: ...

    def train(
        self,
        inputs: NDArray[Any],
        labels: NDArray[np.int64],
        slices: NDArray[np.int64],
        *,
        stale: Sequence[int],
        weights: Mapping[int, Arrays],
        on_batch: Callable[[int, int, int], None],
    ) -> Iterator[TrainedSlice]:
        """Train the stale slices of a shard.

        ``inputs``: (N, …), images or features, ``labels`` and ``slices``: (N,), sorted by slice. ``weights[r]``: of
        slice r, where slice r + 1 is stale and r is not. ``on_batch`` is told slice, epoch and number of samples.
        Raises TrainingError when training fails.
        """
        ...
