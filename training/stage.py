"""How every stage starts and fails: one command line, errors a person can act on, no traceback for them."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import typer


class StageError(Exception):
    """Something the user can mend; the message says what was found, what was expected, what to do."""


def run(main: Callable[..., None]) -> None:
    """Run a stage's ``main`` as a command; a StageError or a full disk ends it with status 1."""
    guard(lambda: typer.run(main))


def guard(command: Callable[[], object]) -> None:
    """Call ``command``; what a person can mend ends the process with a message in place of a traceback."""
    try:
        command()
    except StageError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(
            f"error: the disk is full ({error}). Everything finished so far is kept: "
            "free some space and run `dvc repro` again."
        )
