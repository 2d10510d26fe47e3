"""What several shards together are worth: agreement, robustness, accuracy by their number."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import Aggregation, choose, count_votes, mean_probabilities
from serving.ensemble.robustness import robustness
from training.evaluation.roc import Ints

COUNTS = 20  # numbers of shards that are tried


def robust_accuracy(actual: Ints, predicted: Ints, votes: Ints) -> list[tuple[int, float]]:
    """Share of samples that the vote gets right even if r shards were poisoned, r = 0, 1, … up to half of them.

    The service gives the same robustness with each answer (Levine and Feizi, "Deep partition
    aggregation", ICLR 2021). A poisoned sample is in one shard, so r poisoned samples are survived too.
    """
    right, radius, shards = actual == predicted, robustness(votes), int(votes[0].sum())
    return [(poisoned, float((right & (radius >= poisoned)).mean())) for poisoned in range((shards + 1) // 2 + 1)]


def agreement(actual: Ints, predicted: Ints, votes: Ints) -> list[tuple[int, int, float]]:
    """By the winner's number of votes: how many samples, and what share of them is right."""
    winner = votes.max(axis=1)
    return [
        (int(count), int((winner == count).sum()), float((actual == predicted)[winner == count].mean()))
        for count in np.unique(winner)
    ]


def accuracy_by_shard_count(
    by_shard: NDArray[np.float32], actual: Ints, aggregation: Aggregation, seed: int, limit: int = 30
) -> list[tuple[int, float, float, float]]:
    """Accuracy of ensembles of 1, 2, …, S of the shards: mean, lowest and highest over the choices of shards.

    ``by_shard``: (S, N, C). All choices where there are up to ``limit``, else that many at random. Where there are more
    than 20 shards, only some numbers of them.
    """
    random, shards = np.random.default_rng(seed), len(by_shard)
    rows = []
    counts = (
        range(1, shards + 1) if shards <= COUNTS else np.unique(np.geomspace(1, shards, COUNTS).round().astype(int))
    )
    for count in map(int, counts):
        if comb(shards, count) <= limit:
            chosen = [list(choice) for choice in combinations(range(shards), count)]
        else:
            chosen = [random.choice(shards, count, replace=False).tolist() for _ in range(limit)]
        accuracies = []
        for choice in chosen:
            part = by_shard[choice]
            accuracies.append((choose(mean_probabilities(part), count_votes(part), aggregation) == actual).mean())
        rows.append((count, float(np.mean(accuracies)), float(min(accuracies)), float(max(accuracies))))
    return rows
