"""What is known of one generation, as numbers only: no model, no sample's score and no id is in it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, field_validator

from training.data.summary import read_summary
from training.evaluation.intervals import wilson_interval
from training.evaluation.reports import (
    Absent,
    Attack,
    Backdoor,
    ForgetLists,
    Membership,
    Metrics,
    Reference,
    Share,
    read_backdoor,
    read_membership,
    read_metrics,
)
from training.files import sha256_file
from training.params import Trigger
from training.publish import history
from training.publish.events import Entry, Published
from training.publish.history import cost, read_history
from training.report.cells import OF_THE_COST, OF_THE_LIST, OF_THE_TRIGGER, ROWS, Cell, Value, complete
from training.report.classes import ClassAccuracy, read_classes
from training.workspace import Workspace


class Trial(BaseModel):
    """The backdoor that was tried: cells of another one must not stand beside these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_class: str
    trigger: Trigger


class Evidence(BaseModel):
    """Everything of a generation that the next one is compared with.

    ``generation``: None for models that are not published. ``release``: hex SHA-256 of the release
    candidate. ``retained``, ``forgotten``, ``poisoned``: numbers of samples; the poisoned ones are those
    still in training. ``cells``: one for each of ``ROWS``. ``classes``: none where an earlier version collected it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int | None
    release: str
    retained: int
    forgotten: int
    poisoned: int
    list: ForgetLists
    backdoor: Trial | None
    cells: dict[str, Cell]
    classes: tuple[ClassAccuracy, ...] = ()

    @field_validator("cells")
    @classmethod
    def _cells_are_the_rows(cls, cells: dict[str, Cell]) -> dict[str, Cell]:
        if unknown := cells.keys() - {row.name for row in ROWS}:
            raise ValueError(f"{min(unknown)} is no row; the rows are {', '.join(row.name for row in ROWS)}")
        return complete(cells)


def collect(workspace: Workspace) -> Evidence:
    """The evidence of the models that ``workspace`` holds, from its reports and its ledger.

    Raises DamagedError when a report is missing or damaged, LedgerError when the ledger is.
    """
    partition = read_summary(workspace.partition_file)
    metrics = read_metrics(workspace.report("metrics.json"))
    membership = read_membership(workspace.report("membership.json"))
    backdoor = read_backdoor(workspace.report("backdoor.json"))
    entries = read_history(workspace)
    published = last_published(workspace, entries)
    return Evidence(
        generation=published.generation if isinstance(published, Published) else None,
        release=sha256_file(workspace.release_file),
        retained=sum(partition.retained),
        forgotten=partition.forgotten.listed,
        poisoned=sum(partition.poisoned.retained),
        list=membership.list,
        backdoor=None
        if isinstance(backdoor, Absent)
        else Trial(target_class=backdoor.target_class, trigger=backdoor.trigger),
        cells={
            **accuracies(metrics),
            **attacks(membership),
            **trigger_effect(backdoor),
            **(dict.fromkeys(OF_THE_COST, published) if isinstance(published, Absent) else costs(entries)),
        },
        classes=read_classes(workspace.report("classes.csv")),
    )


def last_published(workspace: Workspace, entries: Sequence[Entry]) -> Published | Absent:
    """The generation of the workspace's release candidate, or why it is not one."""
    if workspace.is_experiment:
        return Absent(absent="an experiment publishes nothing, and the cost of generations alone is recorded")
    last = history.last_published(entries)
    if last is not None and last.release_sha256 == sha256_file(workspace.release_file):
        return last
    return Absent(absent="these models are not published, and the cost of generations alone is recorded")


def accuracies(metrics: Metrics) -> dict[str, Cell]:
    samples = metrics.test_samples
    return {
        f"accuracy_{name}": Value(
            value=quality.accuracy, interval=wilson_interval(round(quality.accuracy * samples), samples)
        )
        for name, quality in (("mean", metrics.mean), ("vote", metrics.vote))
    }


def attacks(membership: Membership) -> dict[str, Cell]:
    """The attacks on the forget set."""
    attacked = membership.forget
    if isinstance(attacked, Absent):
        return dict.fromkeys(OF_THE_LIST, attacked)
    return {
        "forget_accuracy": share(attacked.accuracy.mean),
        "reference_attack": reference(attacked.reference),
        "loss_auc": area(attacked.ensemble_loss),
        "own_auc": area(attacked.own_shard_confidence),
        "ratio_auc": area(attacked.likelihood_ratio),
    }


def trigger_effect(backdoor: Backdoor | Absent) -> dict[str, Cell]:
    """What the trigger does to the mean's answers."""
    if isinstance(backdoor, Absent):
        return dict.fromkeys(OF_THE_TRIGGER, backdoor)
    return {
        "attack_success": share(backdoor.mean.attack_success),
        "attack_baseline": share(backdoor.mean.baseline),
        "attack_recovery": share(backdoor.mean.recovery),
    }


def costs(entries: Sequence[Entry]) -> dict[str, Cell]:
    """What the last generation's training took, beside that of all it serves."""
    spent = cost(entries)
    return {
        "shards": Value(value=spent.shards, of=spent.full_shards),
        "slices": Value(value=spent.slices, of=spent.full_slices),
        "sample_epochs": Value(value=spent.sample_epochs, of=spent.full_sample_epochs),
        "seconds": Value(value=spent.seconds, of=spent.full_seconds),
    }


def share(found: Share | Absent) -> Cell:
    return found if isinstance(found, Absent) else Value(value=found.share, interval=found.interval)


def reference(found: Reference | Absent) -> Cell:
    return found if isinstance(found, Absent) else Value(value=found.accuracy, spread=found.spread)


def area(attack: Attack | Absent) -> Cell:
    if isinstance(attack, Absent):
        return attack
    if isinstance(attack.auc, Absent):
        return attack.auc
    return Value(value=attack.auc, interval=None if isinstance(attack.interval, Absent) else attack.interval)
