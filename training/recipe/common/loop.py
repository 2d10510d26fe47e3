"""The training loop of one slice.

Each slice owns its randomness (generators seeded by seed, shard, slice and purpose) and starts without
momentum. So resuming at a slice equals never having stopped, bit for bit. The optimiser is torch's SGD
as a function: its class imports torch's compiler, a second for each process. Letters: N samples, H = W
their side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.sgd import sgd

from training.params import Training
from training.recipe.common.recipe import Recipe
from training.recipe.common.schedule import make_epoch, shift_and_flip


def train_slice(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    slice_id: int,
    *,
    on_batch: Callable[[int, int], None],
) -> list[float]:
    """Train ``network`` in place on the samples of slices 0..``slice_id``; return each epoch's mean loss.

    ``images``: (N, H, W, 3) uint8, ``labels``: (N,) int64, on the network's device. ``on_batch`` is
    told epoch and number of samples after each step. Raises FloatingPointError when the loss is no
    longer finite.
    """
    training, device = recipe.training, images.device
    network.to(memory_format=torch.channels_last)  # as the images are laid out
    generator = torch.Generator().manual_seed(recipe.seed_for(slice_id, "order"))
    torch.manual_seed(recipe.seed_for(slice_id, "dropout"))
    parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
    momenta: list[Tensor | None] = [None] * len(parameters)
    network.train()
    losses = []
    for number in range(training.epochs_per_slice if len(labels) else 0):
        epoch = make_epoch(
            training,
            number,
            count=len(labels),
            side=images.shape[1],
            slice_id=slice_id,
            slices=recipe.slices,
            generator=generator,
        ).to(device)
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        for (start, stop), rate in zip(epoch.bounds, epoch.learning_rates, strict=True):
            batch = epoch.order[start:stop]
            x, y = images[batch], labels[batch]
            if training.augmentation == "flip-crop":
                x = shift_and_flip(x, epoch.rows[start:stop], epoch.columns[start:stop], epoch.flips[start:stop])
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits = network(x)
            loss = cross_entropy(logits.float(), y, label_smoothing=training.label_smoothing)
            network.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            step(parameters, momenta, rate, training)
            loss_sum += loss.detach() * (stop - start)
            on_batch(number, stop - start)
        losses.append(loss_sum.item() / len(epoch.order))  # the host waits for the device here, once an epoch
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"loss is {losses[-1]} in shard {recipe.shard}, slice {slice_id}, epoch {number}")
    return losses


@torch.no_grad()
def step(parameters: list[Tensor], momenta: list[Tensor | None], rate: float, training: Training) -> None:
    """One step of SGD by the parameters' gradients, in place; ``momenta`` is filled by the first.

    Raises ValueError when a parameter has no gradient: those after it would get that of another one.
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if len(gradients) < len(parameters):
        raise ValueError(f"{len(parameters) - len(gradients)} of {len(parameters)} parameters have no gradient")
    sgd(
        parameters,
        gradients,
        momenta,
        lr=rate,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
        dampening=0,
        maximize=False,
    )
