"""The reports of the stages evaluate, membership and backdoor as JSON, written and read through the models here.

A number that cannot be computed is absent with its reason: ``{"absent": "reason"}`` stands in its place.
Every share, accuracy and area is in [0, 1], every interval one of 95%.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from training.data.summary import Poisoned
from training.files import json_bytes, read_model
from training.params import Trigger

if TYPE_CHECKING:  # needs numpy, which the reports do not
    from serving.ensemble.aggregation import Aggregation

Interval = tuple[float, float]
T = TypeVar("T")


class Uncomputable(ValueError):
    """A number is not defined on the samples that there are; the message says why."""


class Report(BaseModel):
    """A part of a report: frozen, nothing but what is declared, no infinity and no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True)

    def to_bytes(self) -> bytes:
        """The JSON file."""
        return json_bytes(self.model_dump(mode="json", by_alias=True))


class Absent(Report):
    """Stands in the place of what cannot be computed; ``absent``: the reason."""

    absent: str


def or_absent(compute: Callable[[], T]) -> T | Absent:
    """What ``compute`` returns, or Absent with the reason when it raises Uncomputable."""
    try:
        return compute()
    except Uncomputable as error:
        return Absent(absent=str(error))


class Share(Report):
    """A share of ``samples`` with its Wilson interval."""

    share: float
    interval: Interval
    samples: int


# reports/metrics.json


class Quality(Report):
    """How good one aggregation's answers are; precision, recall and F1 are weighted by the classes' frequencies.

    ``log_loss``: mean of -ln p(actual class), in nats.
    """

    accuracy: float
    weighted_f1: float
    weighted_precision: float
    weighted_recall: float
    auroc: float | Absent
    log_loss: float | Absent
    expected_calibration_error: float


class Metrics(Report):
    """The ensemble on the test set."""

    test_samples: int
    mean: Quality
    vote: Quality

    def of(self, aggregation: Aggregation) -> Quality:
        return self.mean if aggregation == "mean" else self.vote


# reports/membership.json


class Reference(Report):
    """The reference attack's accuracy, 0.5 being a guess: mean and standard deviation over ``draws``."""

    accuracy: float
    spread: float
    draws: int
    samples_a_side: int


class Recognised(Report):
    """The share of members that is recognised, with its interval."""

    share: float
    interval: Interval


class Attack(Report):
    """What one score tells of membership: area under the ROC curve, and recall at low false positive rates."""

    auc: float | Absent
    interval: Interval | Absent
    tpr_at_fpr_1_percent: Recognised | Absent = Field(
        validation_alias="tpr_at_fpr_0.01", serialization_alias="tpr_at_fpr_0.01"
    )
    tpr_at_fpr_1_permille: Recognised | Absent = Field(
        validation_alias="tpr_at_fpr_0.001", serialization_alias="tpr_at_fpr_0.001"
    )


class ShardAttack(Report):
    """A shard's own loss as the score, on the samples that are or would be its own."""

    shard: int
    samples: int
    auc: float | Absent
    interval: Interval | Absent
    reference: Reference | Absent


class Accuracies(Report):
    mean: Share
    vote: Share


class AttackedSet(Report):
    """Every attack on one set of samples against the non-members; ``samples``: of the set."""

    samples: int
    accuracy: Accuracies
    reference: Reference | Absent
    ensemble_loss: Attack
    ensemble_confidence: Attack
    own_shard_confidence: Attack
    likelihood_ratio: Attack | Absent
    shards: tuple[ShardAttack, ...]


class ForgetLists(Report):
    """The forget lists that the forget set is made of; ``pictures``: how many of them are still in the source."""

    applied: bool
    listed: int
    already_gone: int
    sha256: str
    pictures: int


class Membership(Report):
    """Attacks on the forget set and on the retained samples; ``non_members``: samples that were never trained on."""

    list: ForgetLists
    non_members: int
    forget: AttackedSet | Absent
    training: AttackedSet


# reports/backdoor.json


class TriggerEffect(Report):
    """What the trigger does. All but ``clean_accuracy`` are of the images that are not of the target class.

    ``attack_success``: taken for the target class with the trigger. ``baseline``: without it.
    ``recovery``: given their true class despite the trigger. ``clean_accuracy``: all images without it.
    """

    attack_success: Share | Absent
    baseline: Share | Absent
    recovery: Share | Absent
    clean_accuracy: Share


class ShardTriggerEffect(TriggerEffect):
    shard: int


class Backdoor(Report):
    """The trigger tried on the test set, by aggregation and by shard."""

    target_class: str
    relabel: bool
    trigger: Trigger
    poisoned: Poisoned
    mean: TriggerEffect
    vote: TriggerEffect
    shards: tuple[ShardTriggerEffect, ...]

    def of(self, aggregation: Aggregation) -> TriggerEffect:
        return self.mean if aggregation == "mean" else self.vote


# Reading. Each raises DamagedError when the file is missing or not such a report.


def read_metrics(path: Path) -> Metrics:
    return read_model(path, TypeAdapter(Metrics))


def read_membership(path: Path) -> Membership:
    return read_model(path, TypeAdapter(Membership))


def read_backdoor(path: Path) -> Backdoor | Absent:
    """Absent when no backdoor was planted."""
    return read_model(path, TypeAdapter[Backdoor | Absent](Backdoor | Absent))
