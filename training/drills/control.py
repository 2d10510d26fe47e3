"""What each line of defence says of models that did not forget, beside what it says of an honest deletion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.erasure.findings import Verification
from training.erasure.verify import verify
from training.report.cells import Cell, Value, in_words
from training.report.drill_results import ATTACKS, QUICK, RETRAINING, Control, Line
from training.workspace import Workspace


def judge_control(
    unlearned: Workspace,
    cheated: Workspace,
    shards: Sequence[int],
    after: Mapping[str, Cell],
    control: Mapping[str, Cell],
) -> Control:
    """``shards``: those that were passed off, which verifying retrains. ``after``, ``control``: cells of either."""
    lines = [
        told_by_verifying(QUICK, *(verify(workspace, quick=True) for workspace in (unlearned, cheated))),
        told_by_verifying(RETRAINING, *(verify(workspace, shards=shards) for workspace in (unlearned, cheated))),
        *(told_by_attack(name, after[row], control[row]) for name, row in ATTACKS.items()),
    ]
    return Control(shards=tuple(shards), lines=tuple(lines))


def told_by_verifying(name: str, after: Verification, control: Verification) -> Line:
    told = control.outcome == "failed" and after.outcome != "failed"
    return Line(name=name, after=in_short(after), cheated=in_short(control), told=told)


def in_short(found: Verification) -> str:
    """The outcome, and the checks that failed."""
    failed = [check.name for check in found.checks if check.outcome == "failed"]
    return f"failed: {', '.join(failed)}" if failed else found.outcome


def told_by_attack(name: str, after: Cell, control: Cell) -> Line:
    """An attack tells when it knows the samples better from the control, and chance does not explain it.

    Not by comparison with guessing: of samples chosen as hard ones, models that never saw them are less sure.
    """
    told = (
        isinstance(after, Value)
        and isinstance(control, Value)
        and after.interval is not None
        and control.interval is not None
        and control.interval[0] > after.interval[1]
    )
    return Line(name=name, after=in_words(after, "share"), cheated=in_words(control, "share"), told=told)
