"""Accuracy by class, before and after.

SISA costs small classes most: split over the shards, each network sees few of their samples, and forgetting takes some
of those (Koch and Soll, "No Matter How You Slice It: Machine Unlearning with SISA Comes at the Expense of Minority
Classes", IEEE SaTML 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from training.evaluation.intervals import wilson_interval
from training.evaluation.reports import Absent
from training.report.cells import NOT_MEASURED, Cell, Value, parts
from training.report.plots import rows_of

SMALLEST = 10  # classes that are shown, of those with the fewest samples
WORST = 5  # and of those that lost most
NAMED = 3  # in words


class ClassAccuracy(BaseModel):
    """``retained``: samples that are trained on. ``mean``, ``vote``: the accuracy of either aggregation, in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    retained: int
    mean: Cell
    vote: Cell

    def of(self, aggregation: str) -> Cell:
        return self.mean if aggregation == "mean" else self.vote


class Compared(BaseModel):
    """A class as a reader sees it: samples trained on and accuracy, before and now."""

    name: str
    retained_before: int | None
    retained: int
    before: Cell
    now: Cell

    @property
    def lost(self) -> float:
        """How much of the accuracy; minus infinity where it cannot be told."""
        if isinstance(self.before, Absent) or isinstance(self.now, Absent):
            return float("-inf")
        return self.before.value - self.now.value


def read_classes(path: Path) -> tuple[ClassAccuracy, ...]:
    """From ``reports/classes.csv``."""
    return tuple(
        ClassAccuracy(
            name=row["class"],
            retained=int(row["retained"]),
            **{each: accuracy(row[each], int(row["test_samples"])) for each in ("mean", "vote")},
        )
        for row in rows_of(path)
    )


def accuracy(written: str, samples: int) -> Cell:
    if not samples:
        return Absent(absent="the test set holds no picture of this class")
    return Value(value=float(written), interval=wilson_interval(round(float(written) * samples), samples))


def compare(before: Sequence[ClassAccuracy], now: Sequence[ClassAccuracy], aggregation: str) -> list[Compared]:
    """Every class, those with the fewest samples first."""
    earlier = {each.name: each for each in before}
    return [
        Compared(
            name=each.name,
            retained_before=earlier[each.name].retained if each.name in earlier else None,
            retained=each.retained,
            before=earlier[each.name].of(aggregation) if each.name in earlier else Absent(absent=NOT_MEASURED),
            now=each.of(aggregation),
        )
        for each in sorted(now, key=lambda each: (each.retained, each.name))
    ]


def shown(classes: Sequence[Compared]) -> list[Compared]:
    """The smallest classes and, after them, those that lost most, of ``compare``'s."""
    smallest, others = list(classes[:SMALLEST]), classes[SMALLEST:]
    worst = sorted((each for each in others if each.lost > 0), key=lambda each: each.lost, reverse=True)[:WORST]
    return smallest + worst


def class_sentences(classes: Sequence[Compared]) -> Iterator[str]:
    """What became of the smallest classes, and of the one that lost most."""
    known = [each for each in classes if isinstance(each.now, Value)]
    if not known:
        return
    smallest = "; ".join(f"{each.name} ({each.retained:,} trained on) {in_both(each)}" for each in known[:NAMED])
    yield f"The smallest classes: {smallest}."
    worst = max(known, key=lambda each: each.lost)
    if worst.lost > 0 and isinstance(worst.before, Value) and isinstance(worst.now, Value):
        (low, _), (_, high) = worst.before.interval or (0, 1), worst.now.interval or (0, 1)
        certain = "" if high < low else ", within what chance explains"
        yield f"The class that lost most accuracy is {worst.name}: {in_both(worst)}{certain}."


def in_both(each: Compared) -> str:
    """``0.900, before 0.910``, or the number alone where there is no before."""
    now, before = (parts(cell, "share")[0] for cell in (each.now, each.before))
    return now if isinstance(each.before, Absent) else f"{now}, before {before}"
