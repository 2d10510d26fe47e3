"""`sisa forget run`: retrain what is asked for when its window has closed. For cron: it may be started at any time.

Requests are gathered in a window, since ten of them that hit one shard cost about as much as one. Nothing answers
meanwhile that saw what they ask for: it was withdrawn first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from training.dvc import run_dvc
from training.errors import RequestError
from training.files import write_atomic
from training.forgetting.exposure import exposure, exposure_in_words
from training.forgetting.services import withdraw_everywhere
from training.forgetting.status import Status, in_words, read_status
from training.publish.publish import publish
from training.publish.withdraw import withdraw
from training.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """``due``: whether the window had closed. ``status``: as it is afterwards."""

    due: bool
    status: Status


def run(workspace: Workspace, window: timedelta, *, dry_run: bool = False) -> Outcome:
    """Withdraw what is asked for, here and elsewhere; if the oldest open request is as old as the window, retrain.

    ``dry_run``: say whether it would, and write nothing. May be stopped at any point and called again. Raises
    BusyError when another one is at work, DvcError when DVC fails, and what ``withdraw`` and ``publish`` raise.
    """
    if workspace.is_experiment:
        raise RequestError(f"{workspace.root} is an experiment, which forgets nothing; run it in the project")
    if dry_run:
        found = read_status(workspace, datetime.now(UTC))
        return Outcome(is_due(workspace, found, window, datetime.now(UTC)), found)
    with workspace.run_lock():
        withdraw(workspace)
        withdraw_everywhere(workspace)
        found = read_status(workspace, datetime.now(UTC))
        if not is_due(workspace, found, window, datetime.now(UTC)):
            return Outcome(False, found)
        write_atomic(workspace.unfinished_run, b"")
        run_dvc(workspace, "repro")
        publish(workspace)  # what a run that was stopped had left to do
        workspace.unfinished_run.unlink()
        return Outcome(True, read_status(workspace, datetime.now(UTC)))


def is_due(workspace: Workspace, found: Status, window: timedelta, now: datetime) -> bool:
    """Whether a run is due; log why, and what is exposed until it is done."""
    if found.served is not None:
        logger.info("%s", exposure_in_words(exposure(workspace, found.served, now)))
    if workspace.unfinished_run.exists():
        logger.info("the last run did not come to its end")
        return True
    waiting = [*(each.since for each in found.open), *(each.since for each in found.not_entered)]
    # A shard may be pending for a request that was cancelled since.
    away = () if found.served is None else found.served.away
    oldest = min([*waiting, *(each.since for each in away if each.since is not None)], default=None)
    if oldest is None:
        due = window == timedelta(0) and not found.as_asked
        logger.info("no request is open%s", ", but what is served is not up to date" if due else "")
        return due
    due = now - oldest >= window
    until = "the window has closed" if due else f"the window closes in {in_words(window - (now - oldest))}"
    logger.info("open requests: %d, waiting for %s; %s", len(waiting), in_words(now - oldest), until)
    return due
