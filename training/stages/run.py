"""How every stage and the command start and end: what is logged is printed, and errors become messages."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from training.errors import DamagedError, SisaError, StalePlanError
from training.workspace import Workspace

ADVICE: dict[type[SisaError], str] = {
    DamagedError: "run `dvc repro` (or `dvc pull`)",
    StalePlanError: "run `dvc repro -f partition schedule`, then `dvc repro`",
}


def run(stage: Callable[[Workspace], object]) -> None:
    """Run a stage in the folder it is started in; it takes no arguments."""
    if sys.argv[1:]:
        sys.exit(f"error: {' '.join(sys.argv[1:])}: a stage takes no arguments; its settings are in params.yaml")
    guard(lambda: stage(here()))


def here() -> Workspace:
    """The workspace of the current directory: DVC starts stages in the folder of dvc.yaml."""
    return Workspace(Path.cwd())


def guard(command: Callable[[], object]) -> None:
    """Call ``command``; what a person can fix ends the process with status 1 and a message, not a traceback."""
    show_logs()
    try:
        command()
    except SisaError as error:
        sys.exit(f"error: {shortened(advised(error))}")
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            sys.exit(f"error: {shortened(str(error))}; allow it, and run the same again")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(
            f"error: the disk is full ({shortened(str(error))}). What was finished is kept, what was begun is not, be "
            "it a request: free some space, and run the same again (of a stage: `dvc repro`)"
        )


def advised(error: SisaError) -> str:
    """The error's message with what to run, unless it says so itself."""
    advice = next((text for kind, text in ADVICE.items() if isinstance(error, kind)), None)
    return f"{error}; {advice}" if advice and "`dvc " not in str(error) else str(error)


def shortened(text: str) -> str:
    """Paths relative to the workspace."""
    return text.replace(f"{here().root}{os.sep}", "")


class ShortPaths(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shortened(super().format(record))


def show_logs() -> None:
    """What libraries log: information to standard output, warnings to standard error."""
    news, warnings = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    news.addFilter(lambda record: record.levelno < logging.WARNING)
    warnings.setLevel(logging.WARNING)
    news.setFormatter(ShortPaths("%(message)s"))
    warnings.setFormatter(ShortPaths("warning: %(message)s"))
    log = logging.getLogger("training")
    log.handlers, log.propagate = [news, warnings], False
    log.setLevel(logging.INFO)
