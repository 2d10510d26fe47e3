"""How well a score tells positives from negatives: the ROC curve, the area under it, recall at few false alarms.

A score is higher the more a sample looks like a positive. Positives and negatives are given as their
scores, (N,) each; where a side is empty, all functions raise Uncomputable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.intervals import wilson_interval
from training.evaluation.reports import Interval, Recognised, Uncomputable

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FEWEST = 20  # samples a side for a bootstrap interval


def auc(positives: Floats, negatives: Floats) -> float:
    """Chance that a positive scores above a negative, ties counting half: the area under the ROC curve."""
    return _area(*_ranks(positives, negatives))


def auc_interval(positives: Floats, negatives: Floats, seed: int, resamples: int = 1000) -> Interval:
    """95% bootstrap interval of ``auc``: both sides are resampled, each with replacement.

    Raises Uncomputable below ``FEWEST`` samples a side: a single sample is always drawn as itself, so
    the interval would be far too narrow.
    """
    ranks = _ranks(positives, negatives)
    if min(len(positives), len(negatives)) < FEWEST:
        raise Uncomputable(
            f"needs {FEWEST} samples on either side, there are {len(positives):,} and {len(negatives):,}: resampling "
            "so few says little of what other samples would have given"
        )
    random = np.random.default_rng(seed)
    areas = [_area(*(side[random.integers(len(side), size=len(side))] for side in ranks)) for _ in range(resamples)]
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(low), float(high)


def roc(positives: Floats, negatives: Floats, rates: Floats) -> Floats:
    """Share of positives above the threshold that at most the share ``rates`` of the negatives is above."""
    _check_both_sides(positives, negatives)
    falling = np.append(np.sort(negatives)[::-1], -np.inf)
    allowed = np.floor(np.asarray(rates) * len(negatives) + 1e-9).astype(int)  # 0.29 · 100 is 28.999…
    not_above = np.searchsorted(np.sort(positives), falling[allowed], side="right")
    shares: Floats = 1 - not_above / len(positives)
    return shares


def tpr_at_fpr(positives: Floats, negatives: Floats, fpr: float) -> Recognised:
    """Share of positives recognised while at most ``fpr`` of the negatives is mistaken for one.

    The interval is Wilson's over the positives, at the threshold found. Raises Uncomputable when fewer
    than ten negatives may be mistaken: the threshold would hang on a handful of samples.
    """
    needed = round(10 / fpr)
    if len(negatives) < needed:
        raise Uncomputable(
            f"needs {needed:,} samples never trained on, so that ten may be mistaken; there are {len(negatives):,}"
        )
    share = float(roc(positives, negatives, np.array([fpr]))[0])
    return Recognised(share=share, interval=wilson_interval(round(share * len(positives)), len(positives)))


def _ranks(positives: Floats, negatives: Floats) -> tuple[Ints, Ints]:
    """Each score as its place among all different scores, 0 being the lowest."""
    _check_both_sides(positives, negatives)
    _, ranks = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    return ranks[: len(positives)], ranks[len(positives) :]


def _area(positives: Ints, negatives: Ints) -> float:
    counts = np.bincount(negatives, minlength=int(positives.max()) + 1)
    below = np.cumsum(counts) - counts / 2  # negatives below each rank, ties half
    return float(below[positives].mean() / len(negatives))


def _check_both_sides(positives: Floats, negatives: Floats) -> None:
    if not len(positives) or not len(negatives):
        raise Uncomputable(
            f"telling one from the other needs samples on both sides, there are {len(positives)} and {len(negatives)}"
        )
