"""The training loop of one slice, and everything random or scheduled in it.

The syntax tree of this file is part of every model's key: changing code here retrains all shards.
Each slice owns its randomness: generators seeded by (seed, shard, slice, purpose), a fresh
optimiser. So resuming at a slice equals never having stopped, bit for bit.
Letters: N pictures, H = W their side, n a batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from training.params import Training

WARM_UP = 0.2  # share of a one-cycle training in which the learning rate rises


def seed_for(seed: int, shard_id: int, slice_id: int, purpose: str) -> int:
    """A seed in [0, 2**63) for one purpose in one slice; ``slice_id`` -1 is the initialisation."""
    digest = hashlib.sha256(f"{seed} {shard_id} {slice_id} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def learning_rate(training: Training, slice_id: int, slices: int, share: float) -> float:
    """The learning rate when ``share`` in [0, 1) of slice ``slice_id`` in [0, ``slices``) is done.

    ``one-cycle`` (after Smith & Topin, 2018, with straight lines): up to the peak over the first
    fifth of a shard's whole training, then down to 0. A slice's part of the whole is its part of
    the steps if all slices were of one size, since it trains on the union of slices 0..r: it must
    not depend on how many samples there are, or deleting one would change every other slice.
    """
    if training.schedule == "constant":
        return training.learning_rate
    done = (slice_id * (slice_id + 1) / 2 + (slice_id + 1) * share) / (slices * (slices + 1) / 2)
    return training.learning_rate * min(done / WARM_UP, (1 - done) / (1 - WARM_UP))


def batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions 0..``count``-1 in random order, each once, ``batch_size`` at a time.

    The last batch may be smaller. Batch norm needs two pictures, so a last batch of one joins the
    batch before, and a picture all alone comes twice.
    """
    order = torch.randperm(count, generator=generator)
    if count == 1:
        yield order.repeat(2)
        return
    parts = list(torch.split(order, batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts


def flip_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the pictures and shift each by up to an eighth, reflecting at the borders.

    (n, H, H, 3) to (n, H, H, 3).
    """
    count, side = images.shape[0], images.shape[1]
    reach = side // 8
    shift = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    position = torch.arange(side)
    rows, columns = _reflect(position + shift[0], side), _reflect(position + shift[1], side)
    columns = torch.where(flip, columns.flip(1), columns)
    picture = torch.arange(count).view(count, 1, 1)
    where = [index.to(images.device) for index in (picture, rows[:, :, None], columns[:, None, :])]
    return images[where[0], where[1], where[2]]


def _reflect(position: Tensor, side: int) -> Tensor:
    position = position.abs()
    return torch.where(position >= side, 2 * (side - 1) - position, position)


def train_slice(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    training: Training,
    *,
    seed: int,
    shard_id: int,
    slice_id: int,
    slices: int,
    on_batch: Callable[[int, int], None],
) -> list[float]:
    """Train ``network`` in place on the union of slices 0..``slice_id``; return each epoch's mean loss.

    ``images``: (N, H, W, 3) uint8, ``labels``: (N,) int64, on the network's device. ``on_batch`` is
    told epoch and batch length after each step. Raises FloatingPointError when the loss is no
    longer finite.
    """
    device = images.device
    network.to(memory_format=torch.channels_last)  # as the pictures lie
    order, pixels = (
        torch.Generator().manual_seed(seed_for(seed, shard_id, slice_id, purpose)) for purpose in ("order", "pixels")
    )
    torch.manual_seed(seed_for(seed, shard_id, slice_id, "dropout"))
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=training.learning_rate,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
    )
    losses = []
    network.train()
    for epoch in range(training.epochs_per_slice if len(labels) else 0):
        loss_sum, seen = torch.zeros((), dtype=torch.float64, device=device), 0
        steps = list(batches(len(labels), training.batch_size, order))
        for step, batch in enumerate(steps):
            # The middle of the step: the first of all has a learning rate above 0, also when it is the only one.
            share = (epoch + (step + 0.5) / len(steps)) / training.epochs_per_slice
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(training, slice_id, slices, share)
            x, y = images[batch.to(device)], labels[batch.to(device)]
            if training.augmentation == "flip-crop":
                x = flip_crop(x, pixels)
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
                logits = network(x)
            loss = cross_entropy(logits.float(), y, label_smoothing=training.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
            seen += len(batch)
            on_batch(epoch, len(batch))
        losses.append(loss_sum.item() / seen)
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"loss is {losses[-1]} in shard {shard_id}, slice {slice_id}, epoch {epoch}")
    return losses
