"""The reference attack: a logistic regression on one number tells members from non-members, cross-validated.

It comes to the same numbers as scikit-learn's ``LogisticRegression``, ``StratifiedKFold`` and ``cross_val_score``.
Importing those, and their checks at each of hundreds of fits, took most of the stage's time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from training.evaluation.reports import Reference, Uncomputable
from training.evaluation.roc import Floats, Ints

FOLDS = 5


def reference_attack(members: Floats, non_members: Floats, seed: int, draws: int = 10, limit: int = 500) -> Reference:
    """Accuracy of a logistic regression that tells members from non-members by one number, cross-validated.

    The attack of the NeurIPS 2023 machine unlearning challenge's starting kit, made steady: balanced
    sets of up to ``limit`` a side, 5 stratified folds, ``draws`` times with other samples and folds.
    0.5 is guessing. ``members``, ``non_members``: (N,) losses, or any score. Raises Uncomputable when
    a side has fewer samples than there are folds.
    """
    side = min(len(members), len(non_members), limit)
    if side < FOLDS:
        raise Uncomputable(
            f"{FOLDS}-fold cross-validation needs {FOLDS} samples a side, there are {len(members)} and "
            f"{len(non_members)}"
        )
    random = np.random.default_rng(seed)
    accuracies = []
    with threadpool_limits(1, "blas"):  # two parameters leave a second thread nothing but to wait, at full load
        for _ in range(draws):
            ours, theirs = (random.choice(scores, side, replace=False) for scores in (members, non_members))
            folds = stratified_folds(side, int(random.integers(2**31)))
            accuracies.append(cross_validated_accuracy(ours, theirs, folds))
    return Reference(
        accuracy=float(np.mean(accuracies)),
        spread=float(np.std(accuracies, ddof=1)),
        draws=draws,
        samples_a_side=side,
    )


def stratified_folds(side: int, seed: int) -> Ints:
    """(2, side) the fold of each sample, scikit-learn's ``StratifiedKFold(5, shuffle=True, random_state=seed)``."""
    random = np.random.RandomState(seed)
    folds = np.sort(np.arange(2 * side).reshape(2, side) % FOLDS, axis=1)
    for row in folds:
        random.shuffle(row)
    return folds


def cross_validated_accuracy(members: Floats, non_members: Floats, folds: Ints) -> float:
    """Mean over the folds of the accuracy on a fold, fitted on the rest; scores (side,) each, ``folds``: (2, side)."""
    scores, member = np.concatenate([members, non_members]), np.repeat([True, False], len(members))
    accuracies = []
    for fold in range(FOLDS):
        tested = folds.ravel() == fold
        slope, intercept = fit_logistic(scores[~tested], member[~tested])
        accuracies.append((slope * scores[tested] + intercept > 0) == member[tested])
    return float(np.mean([right.mean() for right in accuracies]))


def fit_logistic(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one number; ``scores``, ``positive``: (N,).

    What it minimises, how, and when it stops are ``LogisticRegression()``'s: slope² / 2 plus the sum of
    cross-entropies, over N, by L-BFGS from 0.
    """
    samples = len(scores)

    def objective(parameters: Floats) -> tuple[float, Floats]:
        slope, intercept = parameters
        logits = slope * scores + intercept
        loss = np.logaddexp(0, np.where(positive, -logits, logits)).sum() + slope**2 / 2
        residuals = expit(logits) - positive
        return loss / samples, np.array([residuals @ scores + slope, residuals.sum()]) / samples

    stop = {"maxiter": 100, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    slope, intercept = minimize(objective, np.zeros(2), method="L-BFGS-B", jac=True, options=stop).x
    return float(slope), float(intercept)
