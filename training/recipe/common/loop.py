"""The training loop of one slice.

Each slice owns its randomness (generators seeded by seed, shard, slice and purpose) and starts without
momentum. So resuming at a slice equals never having stopped, bit for bit. Letters: N samples, H = W
their side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from training.learning import by_sgd
from training.recipe.common.recipe import Recipe
from training.recipe.common.schedule import make_epoch
from training.recipe.common.step import AnyStep


def train_slice(
    step: AnyStep,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    slice_id: int,
    *,
    on_batch: Callable[[int, int], None],
) -> list[float]:
    """Train ``step.network`` in place on the samples of slices 0..``slice_id``; return each epoch's mean loss.

    ``images``: (N, H, W, 3) uint8, ``labels``: (N,) int64, on the network's device. ``on_batch`` is
    told epoch and number of samples after each step. Raises FloatingPointError when the loss is no
    longer finite.
    """
    training, device = by_sgd(recipe.training), images.device
    generator = torch.Generator().manual_seed(recipe.seed_for(slice_id, "order"))
    torch.manual_seed(recipe.seed_for(slice_id, "dropout"))
    step.forget_momentum()
    step.network.train()
    epochs = (
        make_epoch(
            training,
            number,
            count=len(labels),
            side=images.shape[1],
            slice_id=slice_id,
            slices=recipe.slices,
            generator=generator,
        ).to(device)
        for number in range(training.epochs_per_slice if len(labels) else 0)
    )
    losses: list[float] = []
    epoch = next(epochs, None)
    while epoch is not None:
        loss_sum, count = torch.zeros((), dtype=torch.float64, device=device), len(epoch.order)
        for x, y, rate in epoch.batches(images, labels):
            loss_sum += step(x, y, rate) * len(y)
            on_batch(len(losses), len(y))
        epoch = next(epochs, None)  # made while a GPU is still at work on the one before
        losses.append(loss_sum.item() / count)  # the host waits for the device here, once an epoch
        if not math.isfinite(losses[-1]):
            number = len(losses) - 1
            raise FloatingPointError(f"loss is {losses[-1]} in shard {recipe.shard}, slice {slice_id}, epoch {number}")
    return losses
