"""Stage evaluate: the served ensemble's quality on the test set, for both aggregations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import AGGREGATIONS, Aggregation, choose, count_votes, mean_probabilities
from training import stage
from training.evaluation.metrics import (
    auroc,
    computable,
    cross_entropy,
    expected_calibration_error,
    reliability,
    weighted_scores,
)
from training.evaluation.predictions import load_served, predict
from training.evaluation.voting import accuracy_by_shard_count, agreement, certified_accuracy
from training.files import csv_bytes, json_bytes, write_atomic
from training.params import load_params
from training.paths import (
    AGREEMENT_REPORT,
    CERTIFIED_REPORT,
    CONFUSION_REPORT,
    METRICS_REPORT,
    RELIABILITY_REPORT,
    SHARD_COUNT_REPORT,
    SHARDS_REPORT,
    TEST_FILE,
)
from training.shards import load_shard


def main() -> None:
    test = load_shard(TEST_FILE)
    ensemble = load_served()
    by_shard = predict(ensemble, test.images)
    mean, votes = mean_probabilities(by_shard), count_votes(by_shard)

    report: dict[str, Any] = {"test_samples": len(test.labels)}
    scores: dict[Aggregation, NDArray[Any]] = {"mean": mean, "vote": votes}
    labels = {aggregation: choose(mean, votes, aggregation) for aggregation in AGGREGATIONS}
    for aggregation in AGGREGATIONS:
        report[aggregation] = judge(test.labels, labels[aggregation], scores[aggregation])
    write_atomic(METRICS_REPORT, json_bytes(report))

    accuracy = (by_shard.argmax(axis=2) == test.labels).mean(axis=1)
    rows = [
        (shard.shard, shard.retained, f"{value:.4f}")
        for shard, value in zip(ensemble.manifest.voters, accuracy, strict=True)
    ]
    write_atomic(SHARDS_REPORT, csv_bytes(("shard", "retained", "accuracy"), rows))
    names = np.array(ensemble.manifest.classes)
    confusion = zip(names[test.labels], names[labels["mean"]], names[labels["vote"]], strict=True)
    write_atomic(CONFUSION_REPORT, csv_bytes(("actual", "mean", "vote"), confusion))
    write_plots(test.labels, by_shard, scores, labels, load_params().seed)
    for aggregation in labels:
        print(f"{aggregation}: accuracy {report[aggregation]['accuracy']:.4f}")


def write_plots(
    actual: NDArray[np.int64],
    by_shard: NDArray[np.float32],
    scores: Mapping[Aggregation, NDArray[Any]],
    labels: Mapping[Aggregation, NDArray[np.int64]],
    seed: int,
) -> None:
    """The tables behind the plots; ``by_shard``: (S, N, C), ``scores``: (N, C) and ``labels``: (N,) by aggregation."""
    rows: list[tuple[object, ...]] = []
    for aggregation, predicted in labels.items():
        confidence = shares(scores[aggregation])[np.arange(len(predicted)), predicted]
        rows += [(aggregation, *row) for row in reliability(actual, predicted, confidence)]
    write_atomic(RELIABILITY_REPORT, csv_bytes(("aggregation", "confidence", "accuracy", "samples"), rows))
    counts = [accuracy_by_shard_count(by_shard, actual, aggregation, seed) for aggregation in AGGREGATIONS]
    rows = [(*by_mean, *by_vote[1:]) for by_mean, by_vote in zip(*counts, strict=True)]
    columns = ("mean", "mean_lowest", "mean_highest", "vote", "vote_lowest", "vote_highest")
    write_atomic(SHARD_COUNT_REPORT, csv_bytes(("shards", *columns), rows))
    voted, votes = labels["vote"], scores["vote"]
    certified = certified_accuracy(actual, voted, votes)
    write_atomic(CERTIFIED_REPORT, csv_bytes(("poisoned_shards", "accuracy"), certified))
    write_atomic(AGREEMENT_REPORT, csv_bytes(("votes", "samples", "accuracy"), agreement(actual, voted, votes)))


def judge(actual: NDArray[np.int64], predicted: NDArray[np.int64], scores: NDArray[Any]) -> dict[str, Any]:
    """Every metric of one aggregation; ``scores``: (N, C), mean probabilities or votes.

    What cannot be computed is left out and its reason given under ``absent``.
    """
    scores = shares(scores)
    confidence = scores[np.arange(len(predicted)), predicted]
    numbers: dict[str, Callable[[], float]] = {
        "auroc": lambda: auroc(actual, scores),
        "log_loss": lambda: cross_entropy(actual, scores),
        "expected_calibration_error": lambda: expected_calibration_error(actual, predicted, confidence),
    }
    return {**weighted_scores(actual, predicted), **computable(numbers)}


def shares(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Rows that add up to 1: votes become shares, and float32 probabilities add up to 1 only nearly."""
    rows: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True, dtype=np.float64)
    return rows


if __name__ == "__main__":
    stage.run(main)
