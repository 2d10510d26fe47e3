"""A head in closed form: ridge regression of the classes on features, calibrated by leave-one-out.

Letters: N samples, D features, C classes. All sums are float64 in an order that only the number of BLAS threads
changes. Nothing but the samples given is looked at, so a head is a function of its shard alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLDEST, HOTTEST = -7.0, 3.0  # natural logarithms of the temperatures between which the best one is looked for
HALVINGS = 40
CALIBRATED = 2048  # samples that are left out in turn, evenly spread over the shard: enough for one number


@dataclass(frozen=True)
class Head:
    """Logits of features f are ``f @ weight + bias``; their softmax are probabilities.

    ``weight``: (D, C), ``bias``: (C,) float32, both divided by the temperature. ``loss``: mean of -ln p(actual class)
    in nats, of samples by heads that did not see them.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    loss: float


def fit(features: NDArray[np.float32], labels: Ints, classes: int, l2: float) -> Head:
    """The head of ``features``, (N, D), and ``labels``, (N,) in [0, C), for N > 0.

    Least squares from centred features to classes as rows of zeros with a one, with the penalty λ‖weight‖² and a bias
    that bears none; λ is ``l2`` times the mean squared length of a centred feature, so that one ``l2`` does for few
    samples and for many. Where N ≤ D the same is solved in its dual form (Saunders, Gammerman & Vovk, "Ridge
    Regression Learning Algorithm in Dual Variables", ICML 1998), which costs N³ instead of D³. Raises
    FloatingPointError when a feature is not finite.
    """
    x: Floats = features.astype(np.float64)
    y: Floats = np.eye(classes)[labels]
    mean, share = x.mean(axis=0), y.mean(axis=0)
    x -= mean
    products = x.T @ x if len(x) > x.shape[1] else x @ x.T  # (D, D), or (N, N) where that is smaller
    square = float(np.trace(products))
    if not math.isfinite(square):
        raise FloatingPointError("a feature is not a finite number")
    asked = np.linspace(0, len(x) - 1, min(len(x), CALIBRATED)).astype(np.int64)
    if square == 0:  # one sample, or all of them alike
        weight, left_out = np.zeros((x.shape[1], classes)), y[asked]
    else:
        products[np.diag_indices_from(products)] += l2 * square / len(x)
        solve = _primal if len(x) > x.shape[1] else _dual
        weight, leverage = solve(x, y - share, products, l2 * square / len(x), asked)
        # What the head without a sample would say of it: Allen's PRESS, by the sample's leverage 1/N + h.
        residual = y[asked] - share - x[asked] @ weight
        left_out = y[asked] - residual / (1 - leverage - 1 / len(x))[:, None]
    bias = share - mean @ weight
    labels = labels[asked]
    temperature = best_temperature(left_out, labels)
    return Head(
        weight=(weight / temperature).astype(np.float32),
        bias=(bias / temperature).astype(np.float32),
        loss=cross_entropy(left_out / temperature, labels),
    )


def _primal(x: Floats, y: Floats, gram: Floats, _: float, asked: Ints) -> tuple[Floats, Floats]:
    """Weights (D, C) and the leverage of the samples ``asked`` about, by a system of D equations.

    ``gram``: with the penalty on its diagonal.
    """
    some = x[asked].T
    solved = np.linalg.solve(gram, np.concatenate([x.T @ y, some], axis=1))
    return solved[:, : y.shape[1]], np.einsum("dn,dn->n", some, solved[:, y.shape[1] :])


def _dual(x: Floats, y: Floats, kernel: Floats, penalty: float, asked: Ints) -> tuple[Floats, Floats]:
    """The same by a system of N equations."""
    inverse = np.linalg.inv(kernel)
    return x.T @ (inverse @ y), 1 - penalty * np.diag(inverse)[asked]


def best_temperature(scores: Floats, labels: Ints) -> float:
    """The temperature T at which softmax(scores / T) has the least cross-entropy, by golden sections of ln T.

    ``scores``: (N, C). The loss has one minimum in 1/T, of which it is a convex function (Guo et al., "On Calibration
    of Modern Neural Networks", ICML 2017, section 4.2); where it lies beyond the bounds, the bound is taken.
    """
    ratio = (np.sqrt(5) - 1) / 2
    low, high = COLDEST, HOTTEST
    for _ in range(HALVINGS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if cross_entropy(scores / np.exp(left), labels) <= cross_entropy(scores / np.exp(right), labels):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def cross_entropy(logits: Floats, labels: Ints) -> float:
    """Mean of -ln softmax(logits) at the labels, in nats; ``logits``: (N, C)."""
    below = logits - logits.max(axis=1, keepdims=True)  # so that no exponential is infinite
    return float((np.log(np.exp(below).sum(axis=1)) - below[np.arange(len(labels)), labels]).mean())
