"""How good predictions are: functions from arrays to numbers.

Letters: N samples, C classes. A metric that cannot be computed raises Uncomputable with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, roc_auc_score

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Uncomputable(ValueError):
    """The metric is not defined on these arrays; the message says why."""


def computable(numbers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The numbers that can be computed; of the others the reasons, under ``absent``."""
    report, absent = {}, {}
    for name, compute in numbers.items():
        try:
            report[name] = compute()
        except Uncomputable as error:
            absent[name] = str(error)
    return {**report, "absent": absent} if absent else report


def weighted_scores(actual: Ints, predicted: Ints) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 weighted by the classes' frequencies, each in [0, 1].

    A class that is never predicted has precision 0.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(actual, predicted, average="weighted", zero_division=0)
    return {
        "accuracy": float(accuracy_score(actual, predicted)),
        "weighted_f1": float(f1),
        "weighted_precision": float(precision),
        "weighted_recall": float(recall),
    }


def auroc(actual: Ints, scores: Floats) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes, in [0, 1].

    ``scores``: (N, C), rows adding up to 1.
    """
    missing = set(range(scores.shape[1])) - set(actual.tolist())
    if missing:
        raise Uncomputable(f"the test set holds no sample of class {sorted(missing)}")
    if scores.shape[1] == 2:
        return float(roc_auc_score(actual, scores[:, 1]))
    return float(roc_auc_score(actual, scores, multi_class="ovr", average="macro"))


def cross_entropy(actual: Ints, probabilities: Floats) -> float:
    """Mean of -ln p(actual class), in nats; ``probabilities``: (N, C)."""
    hit = probabilities[np.arange(len(actual)), actual]
    if (hit == 0).any():
        raise Uncomputable(f"infinite: {int((hit == 0).sum())} samples have score 0 for their actual class")
    return float(log_loss(actual, probabilities, labels=np.arange(probabilities.shape[1])))


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
