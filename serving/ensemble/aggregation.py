"""From every shard's probabilities to one label: by their mean or by vote. Needs numpy alone."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Aggregation = Literal["mean", "vote"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
Floats = NDArray[np.float32]


def mean_probabilities(probabilities: Floats) -> Floats:
    """(S, N, C) probabilities of every shard to their (N, C) mean."""
    mean: Floats = probabilities.mean(axis=0, dtype=np.float32)
    return mean


def count_votes(probabilities: Floats) -> NDArray[np.int64]:
    """(S, N, C) probabilities to (N, C): how many shards find each class the most probable.

    Each shard has one vote; where it finds two classes equally probable, the first one gets it.
    """
    classes = probabilities.shape[-1]
    votes: NDArray[np.int64] = np.eye(classes, dtype=np.int64)[probabilities.argmax(axis=-1)].sum(axis=0)
    return votes


def choose(mean: Floats, votes: NDArray[np.int64], aggregation: Aggregation) -> NDArray[np.int64]:
    """(N,) labels from (N, C) mean probabilities and (N, C) votes.

    ``mean``: the class of highest mean probability. ``vote``: the class with most votes; of several
    with as many, the one of highest mean probability; of those, the first. (Bourtoule et al.,
    "Machine Unlearning", IEEE S&P 2021, section IV-E, names both; the tie rule is ours.)
    """
    scores = mean if aggregation == "mean" else np.where(votes == votes.max(axis=1, keepdims=True), mean, -1)
    labels: NDArray[np.int64] = scores.argmax(axis=1)
    return labels
