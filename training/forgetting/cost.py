"""What deletions are expected to cost: closed forms, in sample-epochs.

Slice r of a shard is trained E times on the union of slices 0..r, and is trained again when any sample of that
union is deleted (Bourtoule et al., "Machine Unlearning", IEEE S&P 2021, section V). So it is retrained with a
probability that depends on the union's share of all samples alone; its cost times that probability, added up over
all slices, is the expected cost. With S shards of R slices of one size, K deletions in one batch cost the share
2/(R(R+1)) · Σ i·[1−(1−i/(RS))^K], i = 1..R, of a full training.

Deletions are uniform over the samples and independent, and few beside them: the samples that they take away are
still counted among those that are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Sizes = Sequence[Sequence[float]]  # [shard][slice]: samples
Hit = Callable[[float], float]  # from a union's share of all samples to the probability that a deletion falls into it


@dataclass(frozen=True)
class Expected:
    """Expected numbers of shards and slices that are retrained, and of sample-epochs that takes."""

    shards: float
    slices: float
    sample_epochs: float


def even(samples: float, shards: int, slices: int) -> Sizes:
    """Samples spread evenly."""
    return [[samples / (shards * slices)] * slices] * shards


def full(sizes: Sizes, epochs: int) -> float:
    """Sample-epochs of training everything, ``epochs`` a slice."""
    return epochs * sum(_unions(sizes))


def expected(sizes: Sizes, epochs: int, hit: Hit) -> Expected:
    """The expected cost of one retraining. ``sizes``: at least one sample."""
    samples = sum(sum(shard) for shard in sizes)
    chances = [(union, hit(union / samples)) for union in _unions(sizes)]
    return Expected(
        shards=sum(hit(sum(shard) / samples) for shard in sizes),
        slices=sum(chance for _, chance in chances),
        sample_epochs=epochs * sum(union * chance for union, chance in chances),
    )


def batch(deletions: int) -> Hit:
    """So many random deletions, retrained together."""
    return lambda share: 1 - (1 - share) ** deletions


def window(later: float) -> Hit:
    """A first deletion, and those that follow it within a window: on average ``later``, Poisson-distributed."""
    return lambda share: 1 - (1 - share) * math.exp(-later * share)


def retrainings(rate: float, days: float, span: float) -> float:
    """How often retraining starts in ``span`` days: requests come at random, ``rate`` a day; the first one opens a
    window of ``days``, and when it closes all of them are retrained together."""
    return span / (1 / rate + days)


def mean_wait(rate: float, days: float) -> float:
    """Days from a request until its window closes: all of them for the first, half of them for those that follow."""
    later = rate * days
    return (days + later * days / 2) / (1 + later)


def _unions(sizes: Sizes) -> Iterator[float]:
    """Samples of slices 0..r, of every slice r of every shard."""
    for shard in sizes:
        union = 0.0
        for samples in shard:
            union += samples
            yield union
