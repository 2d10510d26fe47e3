"""How good predictions are, from labels and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.reports import Quality, Uncomputable, or_absent
from training.evaluation.roc import Floats, Ints, auc

SMALLEST = float(np.finfo(np.float64).eps)  # a score below it counts as this much, as in scikit-learn's log_loss


def judge(actual: Ints, predicted: Ints, scores: NDArray[Any]) -> Quality:
    """Every metric of one aggregation; from labels (N,) and ``scores`` (N, C), mean probabilities or votes."""
    scores = shares(scores)
    return Quality(
        **weighted_scores(actual, predicted),
        auroc=or_absent(lambda: auroc(actual, scores)),
        log_loss=or_absent(lambda: cross_entropy(actual, scores)),
        expected_calibration_error=expected_calibration_error(actual, predicted, confidence(predicted, scores)),
    )


def shares(scores: NDArray[Any]) -> Floats:
    """Rows that add up to 1: votes become shares, and float32 probabilities add up to 1 only nearly."""
    rows: Floats = scores / scores.sum(axis=1, keepdims=True, dtype=np.float64)
    return rows


def confidence(predicted: Ints, scores: Floats) -> Floats:
    """(N,) the score of the predicted class; ``scores``: (N, C)."""
    chosen: Floats = scores[np.arange(len(predicted)), predicted]
    return chosen


def weighted_scores(actual: Ints, predicted: Ints) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 weighted by the classes' frequencies, each in [0, 1].

    A class that is never predicted has precision 0.
    """
    classes = int(max(actual.max(), predicted.max())) + 1
    right = np.bincount(actual[actual == predicted], minlength=classes)
    support, claimed = (np.bincount(labels, minlength=classes) for labels in (actual, predicted))
    precision, recall = right / np.maximum(claimed, 1), right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(claimed + support, 1)
    return {
        "accuracy": float((actual == predicted).mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "weighted_precision": float(np.average(precision, weights=support)),
        "weighted_recall": float(np.average(recall, weights=support)),
    }


def auroc(actual: Ints, scores: Floats) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes, in [0, 1].

    ``scores``: (N, C), rows adding up to 1. Raises Uncomputable when there are no samples of some class.
    """
    classes = scores.shape[1]
    missing = set(range(classes)) - set(actual.tolist())
    if missing:
        raise Uncomputable(f"the test set holds no sample of class {sorted(missing)}")
    judged = [1] if classes == 2 else range(classes)  # of two classes, either has the other's area
    return float(np.mean([auc(scores[actual == label, label], scores[actual != label, label]) for label in judged]))


def cross_entropy(actual: Ints, probabilities: Floats) -> float:
    """Mean of -ln p(actual class), in nats; ``probabilities``: (N, C). Raises Uncomputable when it is infinite."""
    hit = probabilities[np.arange(len(actual)), actual]
    if (hit == 0).any():
        raise Uncomputable(f"infinite: {int((hit == 0).sum())} samples have score 0 for their actual class")
    return float(-np.log(np.maximum(hit, SMALLEST)).mean())


def expected_calibration_error(actual: Ints, predicted: Ints, confidence: Floats, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, in [0, 1].

    Σ_b n_b/N · |accuracy_b − confidence_b|, bins (0, 1/bins], …, as in Guo et al., "On Calibration
    of Modern Neural Networks", ICML 2017, section 2. ``confidence``: (N,), of the predicted class.
    """
    gap = np.bincount(_bin(confidence, bins), (actual == predicted) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(actual))


def reliability(actual: Ints, predicted: Ints, confidence: Floats, bins: int = 15) -> list[tuple[float, float, int]]:
    """The bins of the calibration error that hold samples: mean confidence, accuracy, samples."""
    which = _bin(confidence, bins)
    members = [which == number for number in np.unique(which)]
    right = actual == predicted
    return [(float(confidence[m].mean()), float(right[m].mean()), int(m.sum())) for m in members]


def _bin(confidence: Floats, bins: int) -> Ints:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
