"""From a shard's samples to its networks: which samples and which predecessor a slice gets.

Letters: N samples, H = W their side, R slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.learning import by_sgd
from training.recipe.common.loop import train_slice
from training.recipe.common.recipe import Recipe
from training.recipe.common.slices import State, TrainedSlice, union_size
from training.recipe.common.step import make_step


def train_slices(
    network: nn.Module,
    recipe: Recipe,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    slices: NDArray[np.int64],
    *,
    stale: Sequence[int],
    load: Callable[[int], State],
    device: torch.device,
    on_batch: Callable[[int, int, int], None],
) -> Iterator[TrainedSlice]:
    """Train the ``stale`` slices, rising, each from the result of the slice before.

    ``network``: as initialised, on the CPU. ``images``: (N, H, W, 3) uint8, or features where it takes those;
    ``labels`` and ``slices``: (N,), sorted by slice, so that a slice trains on a prefix of them (Bourtoule et al.,
    "Machine Unlearning", IEEE S&P 2021, section IV). ``load(r)``: the weights after slice r, where it is not
    stale. ``on_batch`` is told slice, epoch and number of samples after each step. Raises
    FloatingPointError when the loss is no longer finite.
    """
    how = by_sgd(recipe.training)
    image_tensor, label_tensor = torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device)
    step = make_step(network.to(device), how, image_tensor[: union_size(slices, max(stale, default=-1))])
    trained = -1  # the slice that ``network`` comes from; -1 is the initialisation
    for slice_id in stale:
        if slice_id - 1 != trained:
            network.load_state_dict({name: torch.from_numpy(array) for name, array in load(slice_id - 1).items()})
        union = union_size(slices, slice_id)
        started = time.perf_counter()
        losses = train_slice(
            step,
            image_tensor[:union],
            label_tensor[:union],
            recipe,
            slice_id,
            on_batch=partial(on_batch, slice_id),
        )
        seconds = time.perf_counter() - started
        trained = slice_id
        yield TrainedSlice(
            slice_id=slice_id,
            state={name: tensor.detach().cpu().clone().numpy() for name, tensor in network.state_dict().items()},
            losses=losses,
            samples=union,
            sample_epochs=union * how.epochs_per_slice,
            seconds=seconds,
        )
