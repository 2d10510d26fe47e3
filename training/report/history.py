"""The evidence that is kept for the column "before": ``reports/history.json``, the last two generations at most."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import DamagedError
from training.evaluation.reports import Absent
from training.files import json_bytes, read_json, write_if_changed
from training.publish.events import Entry, Published
from training.report.cells import OF_THE_LIST, OF_THE_TRIGGER, Cell, Value, absent
from training.report.evidence import Evidence
from training.workspace import Workspace

logger = logging.getLogger(__name__)


class History(BaseModel):
    """The evidence of one or two generations, the older one first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generations: tuple[Evidence, ...]


def read_kept(workspace: Workspace) -> tuple[Evidence, ...]:
    """The evidence kept by earlier reports; what an earlier version kept in another shape is dropped, and said so.

    Raises DamagedError when the file is damaged.
    """
    path = workspace.report("history.json")
    if not path.is_file():
        return ()
    try:
        document = read_json(path)
    except DamagedError as error:
        raise DamagedError(
            f'{error}; restore it by `dvc checkout {workspace.short(path)}`, or delete it, which leaves "before" empty'
        ) from error
    try:
        return History.model_validate(document).generations
    except ValidationError:
        logger.warning(
            '%s was kept by an earlier version and cannot be compared with: the column "before" is empty until the '
            "next generation",
            workspace.short(path),
        )
        return ()


def write_kept(workspace: Workspace, history: Sequence[Evidence]) -> None:
    document = History(generations=tuple(history)).model_dump(mode="json")
    write_if_changed(workspace.report("history.json"), json_bytes(document))


def remember(kept: Sequence[Evidence], now: Evidence, entries: Sequence[Entry]) -> tuple[Evidence, ...]:
    """The evidence of the generation before, where it was reported, and ``now``.

    What ``entries``, the ledger, does not list is of another ledger's generations, and forgotten. Models
    that are not published are not a generation, and not remembered.
    """
    listed = {(entry.generation, entry.release_sha256) for entry in entries if isinstance(entry, Published)}
    known = [each for each in kept if (each.generation, each.release) in listed]
    if now.generation is None:
        return tuple(known)
    earlier = [each for each in known if each.generation is not None and each.generation < now.generation]
    return (*earlier[-1:], now)


def before(history: Sequence[Evidence], now: Evidence) -> dict[str, Cell]:
    """The column "before" beside ``now``, ``history`` being what is remembered of both."""
    if now.generation is None:
        return absent("these models are not a generation, so none comes before them")
    if len(history) == 1:
        return absent(f"generation {now.generation} is the first that was reported here")
    last = history[-2]
    cells = dict(last.cells)
    if last.list.sha256 != now.list.sha256:
        reason = (
            f"generation {last.generation} was attacked on another forget list; for a before, this one must be "
            "monitored first (forget.apply: false), which is possible until something on it is forgotten"
        )
        cells |= cleared(OF_THE_LIST, reason, last, now)
    if last.backdoor != now.backdoor:
        reason = f"generation {last.generation} was tried with another trigger or target class, or with none"
        cells |= cleared(OF_THE_TRIGGER, reason, last, now)
    return cells


def cleared(names: Sequence[str], reason: str, *columns: Evidence) -> dict[str, Cell]:
    """``reason`` in the place of what must not be compared; what is in neither column keeps its own."""
    return {
        name: Absent(absent=reason)
        for name in names
        if any(isinstance(column.cells[name], Value) for column in columns)
    }
