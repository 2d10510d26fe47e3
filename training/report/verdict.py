"""What the evidence comes to, in plain sentences, each with its number."""

from __future__ import annotations

from collections.abc import Iterator

from training.report.cells import Cell, Value
from training.report.evidence import Evidence

# A list of poisoned samples is not of the kind that it is compared with.
POISONED_LIST = (
    "Poisoned samples on the forget list carry the trigger, and another label where they are relabelled; the "
    "non-members do not. An attack by loss may tell them apart by that alone, without any memory of them; the "
    "likelihood ratio compares each sample with shards that never held it."
)


def verdict(now: Evidence) -> list[str]:
    """The findings on one generation."""
    return [*attack_sentences(now), *list_sentences(now), *backdoor_sentences(now)]


def attack_sentences(now: Evidence) -> Iterator[str]:
    whose = "forgotten" if now.list.applied else "monitored"
    for name, attack in (("loss_auc", "The attack by loss"), ("ratio_auc", "The attack by likelihood ratio")):
        cell: Cell = now.cells[name]
        if not isinstance(cell, Value):
            continue
        if cell.interval is None:
            yield f"{attack} has too few samples to say anything (AUC {cell.value:.3f})."
            continue
        low, high = cell.interval
        number = f"AUC {cell.value:.3f}, 95% interval {low:.3f} to {high:.3f}"
        if low <= 0.5 <= high:
            yield f"{attack} finds no difference between {whose} samples and non-members ({number})."
        else:
            side = "more" if low > 0.5 else "less"
            yield f"{attack} finds {whose} samples {side} familiar than non-members ({number})."


def list_sentences(now: Evidence) -> Iterator[str]:
    if not now.list.listed:
        yield "Nothing is on the forget lists."
    trained_on = now.list.listed - now.list.already_gone
    if not now.list.applied and trained_on:
        yield f"{counted(trained_on, 'listed sample')} only monitored, and still trained on."


def backdoor_sentences(now: Evidence) -> Iterator[str]:
    success, baseline = now.cells["attack_success"], now.cells["attack_baseline"]
    if not isinstance(success, Value) or not isinstance(baseline, Value):
        return
    left = f"{counted(now.poisoned, 'poisoned sample')} still in training" if now.poisoned else "all of it is forgotten"
    yield (
        f"A backdoor was planted; {left}. The trigger turns {success.value:.1%} of the other classes' test images "
        f"into its class; without the trigger, {baseline.value:.1%} of them are classified as it."
    )
    if now.list.listed:
        yield POISONED_LIST


def counted(number: int, what: str) -> str:
    """``1 listed sample is``, ``2 listed samples are``."""
    return f"{number:,} {what} is" if number == 1 else f"{number:,} {what}s are"
