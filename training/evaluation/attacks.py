"""Membership inference: can one tell from a model's answers that it was trained on a sample?

Functions from arrays to numbers. Letters: S shards, N samples, C classes. A *score* is higher the
more a sample looks like one trained on; *members* are scores of samples that an attacker wants to
recognise, *others* those of samples that were never trained on. A number that the arrays do not
support raises Uncomputable with the reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from training.evaluation.intervals import wilson_interval
from training.evaluation.metrics import Floats, Ints, Uncomputable

FOLDS = 5
FEWEST = 20  # samples a side for a bootstrap interval
TINY = float(np.finfo(np.float32).tiny)  # the models answer in float32: nothing smaller can be told from 0


def cross_entropies(probabilities: NDArray[np.float32], labels: Ints) -> Floats:
    """-ln p(label) in nats, in [0, 87.3]: of probabilities as they are, no second softmax.

    ``probabilities``: (..., N, C), ``labels``: (N,); returns (..., N).
    """
    hit = probabilities[..., np.arange(len(labels)), labels].astype(np.float64)
    loss: Floats = -np.log(np.clip(hit, TINY, 1))
    return loss


def scaled_confidences(probabilities: NDArray[np.float32], labels: Ints) -> Floats:
    """Logit-scaled confidence ln p(label) - ln Σ p(other classes), nearly normal over models.

    Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022; the sum over
    the other classes keeps apart what 1 - p(label) would round to 0. Shapes as above.
    """
    hit = np.eye(probabilities.shape[-1], dtype=bool)[labels]
    right = np.where(hit, probabilities, 0).sum(axis=-1, dtype=np.float64)
    wrong = np.where(hit, 0, probabilities).sum(axis=-1, dtype=np.float64)
    scaled: Floats = np.log(np.clip(right, TINY, None)) - np.log(np.clip(wrong, TINY, None))
    return scaled


def reference_attack(members: Floats, others: Floats, seed: int, draws: int = 10, limit: int = 500) -> dict[str, Any]:
    """Accuracy of a logistic regression that tells members from others by one number, cross-validated.

    The attack of the NeurIPS 2023 machine unlearning challenge's starting kit, made steady: balanced
    sets of up to ``limit`` a side, 5 stratified folds, ``draws`` times with other samples and folds.
    0.5 is guessing. ``members``, ``others``: (N,) losses, or any score. Returns the accuracies' mean
    and standard deviation (``spread``).
    """
    side = min(len(members), len(others), limit)
    if side < FOLDS:
        raise Uncomputable(f"{FOLDS} folds need {FOLDS} samples a side, there are {len(members)} and {len(others)}")
    random = np.random.default_rng(seed)
    target = np.repeat([1, 0], side)
    accuracies = []
    for _ in range(draws):
        drawn = [random.choice(scores, side, replace=False) for scores in (members, others)]
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(random.integers(2**31)))
        score = np.concatenate(drawn)[:, None]
        accuracies.append(cross_val_score(LogisticRegression(), score, target, cv=folds, scoring="accuracy").mean())
    return {
        "accuracy": float(np.mean(accuracies)),
        "spread": float(np.std(accuracies, ddof=1)),
        "draws": draws,
        "samples_a_side": side,
    }


def auc(members: Floats, others: Floats) -> float:
    """Chance that a member's score is above another's, ties counting half: the area under the ROC curve."""
    return _auc(*_ranks(members, others))


def auc_interval(members: Floats, others: Floats, seed: int, resamples: int = 1000) -> tuple[float, float]:
    """95% bootstrap interval of ``auc``: members and others drawn anew, each with replacement.

    Raises Uncomputable below ``FEWEST`` samples a side: one sample drawn anew is always the same one,
    so the interval would be far too narrow.
    """
    ranks = _ranks(members, others)
    if min(len(members), len(others)) < FEWEST:
        raise Uncomputable(
            f"needs {FEWEST} samples on either side, there are {len(members):,} and {len(others):,}: drawing so few "
            "anew says little of what others would have given"
        )
    random = np.random.default_rng(seed)
    areas = [_auc(*(side[random.integers(len(side), size=len(side))] for side in ranks)) for _ in range(resamples)]
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(low), float(high)


def _ranks(members: Floats, others: Floats) -> tuple[Ints, Ints]:
    """Each score as its place among all different scores, 0 being the lowest."""
    _check_both_sides(members, others)
    _, ranks = np.unique(np.concatenate([members, others]), return_inverse=True)
    return ranks[: len(members)], ranks[len(members) :]


def _auc(members: Ints, others: Ints) -> float:
    counts = np.bincount(others, minlength=int(members.max()) + 1)
    below = np.cumsum(counts) - counts / 2  # others below each rank, ties half
    return float(below[members].mean() / len(others))


def _check_both_sides(members: Floats, others: Floats) -> None:
    if not len(members) or not len(others):
        raise Uncomputable(f"an attack needs samples on both sides, there are {len(members)} and {len(others)}")


def roc(members: Floats, others: Floats, rates: Floats) -> Floats:
    """Share of members above a threshold that at most the share ``rates`` of the others is above.

    Raises Uncomputable when a side is empty.
    """
    _check_both_sides(members, others)
    falling = np.append(np.sort(others)[::-1], -np.inf)
    allowed = np.floor(np.asarray(rates) * len(others) + 1e-9).astype(int)  # 0.29 · 100 is 28.999…
    above = np.searchsorted(np.sort(members), falling[allowed], side="right")
    shares: Floats = 1 - above / len(members)
    return shares


def tpr_at_fpr(members: Floats, others: Floats, fpr: float) -> dict[str, Any]:
    """Share of members recognised while at most ``fpr`` of the others is mistaken for one, with its interval.

    The interval is Wilson's over the members, at the threshold found. Raises Uncomputable when
    fewer than ten others may be mistaken: the threshold would hang on a handful of samples.
    """
    needed = round(10 / fpr)
    if len(others) < needed:
        raise Uncomputable(
            f"needs {needed:,} samples never trained on, so that ten may be mistaken; there are {len(others):,}"
        )
    share = float(roc(members, others, np.array([fpr]))[0])
    return {"share": share, "interval": wilson_interval(round(share * len(members)), len(members))}


def likelihood_ratio(confidences: Floats, held_by: Ints) -> Floats:
    """How far above chance the holding shard's confidence is, in standard deviations, sample by sample.

    The offline variant of LiRA (Carlini et al., IEEE S&P 2022) with what SISA has at hand:
    for a sample of shard k, the S-1 other shards are models that were trained alike and never held
    it, its *out* models. Their mean says how easy the sample is. ``confidences``: (S, N)
    logit-scaled, ``held_by``: (N,) row of the shard that holds the sample, or would hold it.
    Under "never seen", the score is nearly standard normal.

    Limits: S-1 models are few, so all samples share one variance (as theirs do
    when shadow models are few); there are no *in* models, so the test is one-sided; it needs every shard's own answer,
    which is more than the ensemble's mean gives away. Raises Uncomputable below three shards.
    """
    shards, samples = confidences.shape
    if shards < 3:
        raise Uncomputable(
            f"needs the spread of at least two shards that never held a sample; there are {shards} in all"
        )
    if not samples:
        raise Uncomputable("there is no sample")
    out = np.ones((shards, samples), bool)
    out[held_by, np.arange(samples)] = False
    outside = confidences.T[out.T].reshape(samples, shards - 1)
    variance = outside.var(axis=1, ddof=1).mean()
    if variance == 0:
        raise Uncomputable("the shards that never held a sample agree to the last bit: their spread is 0")
    held = confidences[held_by, np.arange(samples)]
    # 1 + 1/(S-1): one more model of the kind, against a mean that is itself an estimate.
    ratio: Floats = (held - outside.mean(axis=1)) / np.sqrt(variance * (1 + 1 / (shards - 1)))
    return ratio
