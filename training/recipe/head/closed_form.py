"""From a shard's features to its heads, in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.learning import Ridge
from training.recipe.common.recipe import Recipe
from training.recipe.common.slices import TrainedSlice, union_size
from training.recipe.head.ridge import fit


def train_slices(
    recipe: Recipe,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    slices: NDArray[np.int64],
    *,
    stale: Sequence[int],
    on_batch: Callable[[int, int, int], None],
) -> Iterator[TrainedSlice]:
    """A head for each ``stale`` slice, fitted to the union of slices 0..r: it needs no other head to start from.

    ``features``: (N, D), ``labels`` and ``slices``: (N,), sorted by slice. ``on_batch`` is told slice, epoch and
    number of samples after each head. A slice without any sample before it has a head that is 0 everywhere. Raises
    FloatingPointError when a feature is not finite.
    """
    how = recipe.training
    assert isinstance(how, Ridge)
    for slice_id in stale:
        union = union_size(slices, slice_id)
        started = time.perf_counter()
        with threadpool_limits(how.threads):
            head = fit(features[:union], labels[:union], recipe.classes, how.l2) if union else None
        weight = np.zeros((features.shape[1], recipe.classes), np.float32) if head is None else head.weight
        bias = np.zeros(recipe.classes, np.float32) if head is None else head.bias
        on_batch(slice_id, 0, union)
        yield TrainedSlice(
            slice_id=slice_id,
            state={"weight": weight, "bias": bias},
            losses=[] if head is None else [head.loss],
            samples=union,
            sample_epochs=union,
            seconds=time.perf_counter() - started,
        )
