"""Stage evaluate: the served ensemble's quality on the test set, for both aggregations."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serving.ensemble import (
    Ensemble,
    EnsembleUnavailable,
    choose,
    count_votes,
    load_ensemble,
    mean_probabilities,
)
from training import stage
from training.evaluation.metrics import (
    Uncomputable,
    auroc,
    cross_entropy,
    expected_calibration_error,
    weighted_scores,
)
from training.files import csv_bytes, json_bytes, write_atomic
from training.paths import CONFUSION_REPORT, METRICS_REPORT, MODELS_FOLDER, SHARDS_REPORT, TEST_FILE
from training.shards import load_shard
from training.stage import StageError

BATCH = 250  # pictures at a time


def main() -> None:
    test = load_shard(TEST_FILE)
    try:
        ensemble = load_ensemble(MODELS_FOLDER, threads=os.cpu_count() or 1)
    except EnsembleUnavailable as error:
        raise StageError(str(error)) from error
    by_shard = predict(ensemble, test.images)
    mean, votes = mean_probabilities(by_shard), count_votes(by_shard)

    report: dict[str, Any] = {"test_samples": len(test.labels)}
    labels = {"mean": choose(mean, votes, "mean"), "vote": choose(mean, votes, "vote")}
    report["mean"] = judge(test.labels, labels["mean"], mean)
    report["vote"] = judge(test.labels, labels["vote"], votes)
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
    for aggregation in labels:
        print(f"{aggregation}: accuracy {report[aggregation]['accuracy']:.4f}")


def predict(ensemble: Ensemble, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, H, W, 3) uint8 to (S, N, C) probabilities of every shard."""
    starts = tqdm(range(0, len(images), BATCH), desc="predict", unit="batch", leave=False, disable=None)
    return np.concatenate([ensemble.shard_probabilities(images[start : start + BATCH]) for start in starts], axis=1)


def judge(actual: NDArray[np.int64], predicted: NDArray[np.int64], scores: NDArray[Any]) -> dict[str, Any]:
    """Every metric of one aggregation; ``scores``: (N, C), mean probabilities or votes.

    What cannot be computed is left out and its reason given under ``absent``.
    """
    # Votes become shares; float32 rows add up to 1 only nearly.
    scores = scores / scores.sum(axis=1, keepdims=True, dtype=np.float64)
    confidence = scores[np.arange(len(predicted)), predicted]
    numbers: dict[str, Callable[[], float]] = {
        "auroc": lambda: auroc(actual, scores),
        "log_loss": lambda: cross_entropy(actual, scores),
        "expected_calibration_error": lambda: expected_calibration_error(actual, predicted, confidence),
    }
    report: dict[str, Any] = {**weighted_scores(actual, predicted)}
    absent = {}
    for name, compute in numbers.items():
        try:
            report[name] = compute()
        except Uncomputable as error:
            absent[name] = str(error)
    return {**report, "absent": absent} if absent else report


if __name__ == "__main__":
    stage.run(main)
