"""Membership inference: whether the models' answers tell what they were trained on.

A set of samples, the *members*, is attacked against *non-members*, which were never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import choose, count_votes, mean_probabilities
from training.evaluation.attacks import cross_entropies, likelihood_ratio, scaled_confidences
from training.evaluation.intervals import share_of
from training.evaluation.reference import reference_attack
from training.evaluation.reports import Accuracies, Attack, AttackedSet, ShardAttack, Uncomputable, or_absent
from training.evaluation.roc import Floats, Ints, auc, auc_interval, roc, tpr_at_fpr


@dataclass(frozen=True)
class Answers:
    """What the models answer for some samples.

    ``labels``: (N,). ``shards``: (N,) the shard that holds each, or would hold it. ``by_shard``:
    (S, N, C) probabilities, in the order of ``served``, the ids of the shards that have a model.
    """

    labels: Ints
    shards: Ints
    by_shard: NDArray[np.float32]
    served: tuple[int, ...]

    def confidences(self) -> tuple[Floats, Ints]:
        """(S, M) logit-scaled confidences and (M,) row of the own shard; a sample whose shard abstains is left out."""
        inside = np.isin(self.shards, self.served)
        rows = np.array([self.served.index(shard) for shard in self.shards[inside]], np.int64)
        return scaled_confidences(self.by_shard[:, inside], self.labels[inside]), rows


# The scores: each of the members (M,) and of the non-members (N,), higher for what looks trained on. By its own shard
# a sample has none where that abstains.

Score = Callable[[Answers, Answers], tuple[Floats, Floats]]


def ensemble_loss(members: Answers, non_members: Answers) -> tuple[Floats, Floats]:
    """Minus the cross-entropy of the ensemble's mean."""
    return _loss_of_mean(members), _loss_of_mean(non_members)


def ensemble_confidence(members: Answers, non_members: Answers) -> tuple[Floats, Floats]:
    """The logit-scaled confidence of the ensemble's mean; it ranks as the loss does, but for ties by rounding."""
    return _confidence_of_mean(members), _confidence_of_mean(non_members)


def own_shard_confidence(members: Answers, non_members: Answers) -> tuple[Floats, Floats]:
    """The logit-scaled confidence of the shard that holds the sample, or would."""
    return _confidence_of_own_shard(members), _confidence_of_own_shard(non_members)


def likelihood_ratios(members: Answers, non_members: Answers) -> tuple[Floats, Floats]:
    """``likelihood_ratio`` of both at once: the variance that they share must be the same."""
    (ours, our_rows), (theirs, their_rows) = members.confidences(), non_members.confidences()
    ratios = likelihood_ratio(np.concatenate([ours, theirs], axis=1), np.concatenate([our_rows, their_rows]))
    return ratios[: len(our_rows)], ratios[len(our_rows) :]


def _loss_of_mean(answers: Answers) -> Floats:
    return -cross_entropies(mean_probabilities(answers.by_shard), answers.labels)


def _confidence_of_mean(answers: Answers) -> Floats:
    return scaled_confidences(mean_probabilities(answers.by_shard), answers.labels)


def _confidence_of_own_shard(answers: Answers) -> Floats:
    confidences, rows = answers.confidences()
    own: Floats = confidences[rows, np.arange(len(rows))]
    return own


def attack(members: Answers, non_members: Answers, seed: int) -> AttackedSet:
    """Every attack on one set of samples; ``seed`` draws what is resampled."""
    mean, votes = mean_probabilities(members.by_shard), count_votes(members.by_shard)
    return AttackedSet(
        samples=len(members.labels),
        accuracy=Accuracies(
            mean=share_of(choose(mean, votes, "mean") == members.labels),
            vote=share_of(choose(mean, votes, "vote") == members.labels),
        ),
        reference=or_absent(lambda: reference_attack(*ensemble_loss(members, non_members), seed)),
        ensemble_loss=judge_scores(*ensemble_loss(members, non_members), seed),
        ensemble_confidence=judge_scores(*ensemble_confidence(members, non_members), seed),
        own_shard_confidence=judge_scores(*own_shard_confidence(members, non_members), seed),
        likelihood_ratio=or_absent(lambda: judge_scores(*likelihood_ratios(members, non_members), seed)),
        shards=tuple(attack_shard(members, non_members, shard_id, seed) for shard_id in members.served),
    )


def attack_shard(members: Answers, non_members: Answers, shard_id: int, seed: int) -> ShardAttack:
    """A shard's own loss, on the samples that are or would be its own, against all non-members."""
    row, mine = members.served.index(shard_id), members.shards == shard_id
    ours = -cross_entropies(members.by_shard[row, mine], members.labels[mine])
    theirs = -cross_entropies(non_members.by_shard[row], non_members.labels)
    return ShardAttack(
        shard=shard_id,
        samples=int(mine.sum()),
        auc=or_absent(lambda: auc(ours, theirs)),
        interval=or_absent(lambda: auc_interval(ours, theirs, seed)),
        reference=or_absent(lambda: reference_attack(ours, theirs, seed)),
    )


def judge_scores(members: Floats, non_members: Floats, seed: int) -> Attack:
    """What one score tells: area with interval, and what is recognised at low false positive rates."""
    return Attack(
        auc=or_absent(lambda: auc(members, non_members)),
        interval=or_absent(lambda: auc_interval(members, non_members, seed)),
        tpr_at_fpr_1_percent=or_absent(lambda: tpr_at_fpr(members, non_members, 0.01)),
        tpr_at_fpr_1_permille=or_absent(lambda: tpr_at_fpr(members, non_members, 0.001)),
    )


CURVES: Mapping[str, Score] = {
    "ensemble loss": ensemble_loss,
    "own shard confidence": own_shard_confidence,
    "likelihood ratio": likelihood_ratios,
}


def roc_curves(members: Answers, non_members: Answers) -> list[tuple[str, float, float]]:
    """Attack, false and true positive rate: points of every curve that there is, evenly spread on a log axis."""
    count = len(non_members.labels)
    rates = np.unique(np.floor(np.geomspace(1, count, 60))) / count
    points = []
    for name, score in CURVES.items():
        try:
            curve = roc(*score(members, non_members), rates)
        except Uncomputable:
            continue  # the reason is in the report
        points += [(name, float(x), float(y)) for x, y in zip(rates, curve, strict=True)]
    return points
