"""The one log: a JSON object a line, on standard output, of a length that has a bound.

Every line has ``time``, ``level`` and ``logger``. A message has ``message``, and ``exception`` where there was one; a
request that was answered or refused has fields of its own instead (serving/gate.py).
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from serving.refusal import cut

MESSAGE_CHARACTERS = 4000
TRACEBACK_CHARACTERS = 8000  # the last ones: they say what was raised, and where

# Of libraries that bring handlers or levels of their own; as quiet as BentoML has them.
LEVELS = {
    "serving": logging.INFO,
    "bentoml": logging.INFO,
    "circus": logging.CRITICAL,  # what it cannot do is raised as well
    "uvicorn": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,  # the gate tells what was asked
}

access_log = logging.getLogger("serving.access")


class JsonLines(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
        }
        fields: dict[str, Any] | None = getattr(record, "fields", None)
        if fields is not None:
            line |= fields
        else:
            line["message"] = cut(record.getMessage(), MESSAGE_CHARACTERS)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-TRACEBACK_CHARACTERS:]
        return json.dumps(line, default=str)


def configure_logging() -> None:
    """Whatever this process logs, and Python's warnings, as JSON lines to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    for name, level in LEVELS.items():
        log = logging.getLogger(name)
        log.handlers, log.propagate = [], True
        log.setLevel(level)
    logging.captureWarnings(True)


def log_request(**fields: Any) -> None:
    """The access log's line of one request."""
    access_log.info("", extra={"fields": fields})
