"""A cell of the table before / after / retrained: a number with what goes with it, or the reason for its absence.

In JSON ``{"value": x}``, with ``interval``, ``spread`` or ``of`` where there is one, or ``{"absent": reason}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from training.evaluation.reports import Absent, Interval

Kind = Literal["share", "count", "seconds"]


class Value(BaseModel):
    """``interval``: of 95%. ``spread``: standard deviation. ``of``: the whole that ``value`` is a part of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: int | float
    interval: Interval | None = None
    spread: float | None = None
    of: int | float | None = None

    @model_serializer(mode="wrap")
    def _what_there_is(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: part for name, part in serialize(self).items() if part is not None}


Cell = Value | Absent


class Row(NamedTuple):
    """A row of the table: its name in evidence, what a reader sees, and how its values are written."""

    name: str
    label: str
    kind: Kind


ROWS = (
    Row("accuracy_mean", "accuracy, mean of probabilities", "share"),
    Row("accuracy_vote", "accuracy, majority vote", "share"),
    Row("forget_accuracy", "accuracy on the forget set", "share"),
    Row("reference_attack", "reference attack on the forget set, accuracy", "share"),
    Row("loss_auc", "attack by the ensemble's loss, AUC", "share"),
    Row("own_auc", "attack by the own shard's confidence, AUC", "share"),
    Row("ratio_auc", "attack by likelihood ratio over shards, AUC", "share"),
    Row("attack_success", "backdoor: attack success", "share"),
    Row("attack_baseline", "backdoor: baseline, without the trigger", "share"),
    Row("attack_recovery", "backdoor: recovery, correct despite the trigger", "share"),
    Row("shards", "shards retrained", "count"),
    Row("slices", "slices retrained", "count"),
    Row("sample_epochs", "sample-epochs", "count"),
    Row("seconds", "training seconds", "seconds"),
)
OF_THE_LIST = ("forget_accuracy", "reference_attack", "loss_auc", "own_auc", "ratio_auc")
OF_THE_TRIGGER = ("attack_success", "attack_baseline", "attack_recovery")
OF_THE_COST = ("shards", "slices", "sample_epochs", "seconds")


NOT_MEASURED = "not measured by the version that made this column"


class Notes(list[str]):
    """The reasons for what is absent from a table, each once, to be put below it by number."""

    def number(self, cell: Cell) -> int | None:
        """The number of a cell's reason, from 1; None for a cell that has its value."""
        if isinstance(cell, Value):
            return None
        if cell.absent not in self:
            self.append(cell.absent)
        return self.index(cell.absent) + 1

    def mark(self, cell: Cell, kind: Kind) -> str:
        """The cell as a reader sees it, followed by the number of its reason."""
        words, number = in_words(cell, kind), self.number(cell)
        return words if number is None else f"{words} ({number})"

    def lines(self) -> list[str]:
        """The reasons as they stand below the table."""
        return [f"({number}) {reason}" for number, reason in enumerate(self, start=1)]


def absent(reason: str) -> dict[str, Cell]:
    """A column without a number."""
    return {row.name: Absent(absent=reason) for row in ROWS}


def complete(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """A cell for every row, even where an earlier version, which knew fewer, made the column."""
    return absent(NOT_MEASURED) | {row.name: cells[row.name] for row in ROWS if row.name in cells}


def in_words(cell: Cell, kind: Kind) -> str:
    """A cell as a reader sees it: ``0.864 [0.857, 0.870]``, ``3 of 25``, ``–``."""
    return " ".join(part for part in parts(cell, kind) if part)


def parts(cell: Cell, kind: Kind) -> tuple[str, str]:
    """A cell's number and what goes with it, which may be nothing."""
    if isinstance(cell, Absent):
        return "–", ""
    number = cell.value
    if kind == "share":
        text = f"{number:.3f}"
        if cell.interval is not None:
            return text, "[{:.3f}, {:.3f}]".format(*cell.interval)
        return text, "" if cell.spread is None else f"± {cell.spread:.3f}"
    if cell.spread is not None:
        digits = 0 if number > 1000 else 1
        return f"{number:,.{digits}f}", f"± {cell.spread:,.{digits}f}"
    digits = 1 if kind == "seconds" else 0
    if cell.of is None:
        return f"{number:,.{digits}f}", ""
    ratio = f" ({number / cell.of:.1%})" if cell.of and (kind == "seconds" or cell.of > 1000) else ""
    return f"{number:,.{digits}f}", f"of {cell.of:,.{digits}f}{ratio}"
