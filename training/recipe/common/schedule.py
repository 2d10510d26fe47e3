"""Everything random or scheduled in an epoch, as tensors made before it begins.

They come from generators of the CPU, so the device changes none of them, and the loop needs nothing
from the host while it runs. Letters: N samples, M positions (N, or 2 where there is one sample), B steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.learning import Sgd

WARM_UP = 0.2  # share of a one-cycle training in which the learning rate rises


@dataclass(frozen=True)
class Epoch:
    """``order``: (M,) int64 positions of samples, each once. ``rows``, ``columns``: (M,) int64 shifts in pixels.

    ``flips``: (M,) bool. ``bounds``: B pairs of first and last + 1 position of a step. ``learning_rates``:
    B numbers. ``augmented``: whether any image is shifted or mirrored.
    """

    order: Tensor
    rows: Tensor
    columns: Tensor
    flips: Tensor
    bounds: list[tuple[int, int]]
    learning_rates: list[float]
    augmented: bool

    def to(self, device: torch.device) -> Epoch:
        """On ``device``; a GPU gets it when it is done with what it has been given before."""
        if device.type == "cpu":
            return self
        # From pinned memory, else the host would wait for the GPU.
        order, rows, columns, flips = (
            tensor.pin_memory().to(device, non_blocking=True)
            for tensor in (self.order, self.rows, self.columns, self.flips)
        )
        return replace(self, order=order, rows=rows, columns=columns, flips=flips)

    def batches(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
        """For each step its (n, H, H, 3) images, shifted and mirrored, their (n,) labels, and its learning rate.

        ``images``: (N, H, H, 3) uint8, ``labels``: (N,), on the epoch's device.
        """
        labels = labels[self.order]
        if self.augmented:
            rows, columns = sources(self.rows, self.columns, self.flips, images.shape[1])
        for (start, stop), rate in zip(self.bounds, self.learning_rates, strict=True):
            taken = self.order[start:stop]
            if self.augmented:
                batch = images[taken[:, None, None], rows[start:stop, :, None], columns[start:stop, None, :]]
            else:
                batch = images[taken]
            yield batch, labels[start:stop], rate


def make_epoch(
    training: Sgd, epoch: int, *, count: int, side: int, slice_id: int, slices: int, generator: torch.Generator
) -> Epoch:
    """Epoch ``epoch`` of slice ``slice_id`` on ``count`` > 0 samples of ``side`` × ``side`` pixels."""
    order = torch.randperm(count, generator=generator)
    if count == 1:
        order = order.repeat(2)  # batch norm needs two
    positions = len(order)
    if training.augmentation == "flip-crop":
        reach = side // 8
        rows, columns = torch.randint(-reach, reach + 1, (2, positions), generator=generator)
        flips = torch.rand(positions, generator=generator) < 0.5
    else:
        rows = columns = torch.zeros(positions, dtype=torch.int64)
        flips = torch.zeros(positions, dtype=torch.bool)
    bounds = step_bounds(positions, training.batch_size)
    # The middle of each step: the first of all has a learning rate above 0, also when it is the only one.
    done = [(epoch + (step + 0.5) / len(bounds)) / training.epochs_per_slice for step in range(len(bounds))]
    rates = [learning_rate(training, slice_id, slices, share) for share in done]
    return Epoch(order, rows, columns, flips, bounds, rates, training.augmentation == "flip-crop")


def step_bounds(positions: int, batch_size: int) -> list[tuple[int, int]]:
    """First and last + 1 position of every step: all of one size but the last one.

    That is what remains, and nothing is dropped. Batch norm needs two samples, so a remainder of one
    joins the step before.
    """
    starts = list(range(0, positions, batch_size))
    if len(starts) > 1 and positions - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], positions], strict=True))


def learning_rate(training: Sgd, slice_id: int, slices: int, share: float) -> float:
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


def sources(rows: Tensor, columns: Tensor, flips: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of a shifted and then mirrored image is taken from: its row and its column in the original.

    Two (M, ``side``) int64 for (M,) shifts and flips; what is shifted in is reflected at the border.
    """
    position = torch.arange(side, device=rows.device)
    from_row = _reflect(position + rows[:, None], side)
    from_column = _reflect(position + columns[:, None], side)
    return from_row, torch.where(flips[:, None], from_column.flip(1), from_column)


def _reflect(position: Tensor, side: int) -> Tensor:
    position = position.abs()
    return torch.where(position >= side, 2 * (side - 1) - position, position)
