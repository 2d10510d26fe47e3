"""The one log: whoever speaks, a line is JSON and has a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from server import REPOSITORY

pytestmark = pytest.mark.heavy

LONGEST = 16_000  # bytes of plain text: a message of 4,000 characters, or a traceback of 8,000 beside it


def logged(code: str) -> list[dict[str, Any]]:
    """The lines that ``code`` logs in a process of its own."""
    begin = "import logging, warnings; from serving.log import configure_logging; configure_logging()\n"
    command = [sys.executable, "-c", begin + code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert all(len(line) < LONGEST for line in done.stdout.splitlines())
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("code", "logger", "level"),
    [
        ("warnings.warn('look' * 10_000)", "py.warnings", "WARNING"),
        ("logging.getLogger('bentoml.serve').warning('look' * 10_000)", "bentoml.serve", "WARNING"),
        ("logging.getLogger('uvicorn.error').error('look\\n' * 10_000)", "uvicorn.error", "ERROR"),
        ("logging.getLogger('a.library').error('look %s', 'x' * 100_000)", "a.library", "ERROR"),
    ],
)
def test_a_message_is_one_line_of_json_cut_to_its_bound(code: str, logger: str, level: str) -> None:
    (line,) = logged(code)
    assert (line["logger"], line["level"]) == (logger, level)
    assert "look" in line["message"]
    assert len(line["message"]) <= 4001


def test_a_traceback_is_cut_at_its_beginning() -> None:
    (line,) = logged(
        "try:\n    raise ValueError('a' * 20_000 + 'the end')\n"
        "except ValueError:\n    logging.getLogger('serving').exception('failed')"
    )
    assert line["message"] == "failed"
    assert line["exception"].endswith("the end")
    assert len(line["exception"]) == 8000


def test_a_library_that_is_quiet_by_default_stays_so() -> None:
    assert logged("logging.getLogger('a.library').info('chatter'); logging.getLogger('uvicorn.error').info('up')") == []
