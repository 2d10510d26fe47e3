"""What would keep the service from starting, found before it starts: one line in the log and exit status 2."""

from __future__ import annotations

import logging
import socket
import tempfile
from pathlib import Path
from typing import NoReturn

import click

logger = logging.getLogger("serving")

CANNOT_START = 2  # exit status


def give_up(reason: object) -> NoReturn:
    """End this process with the one line that says why. Raises SystemExit."""
    logger.critical("the service cannot start: %s", reason)
    raise SystemExit(CANNOT_START)


def check_state(folder: Path) -> None:
    """Raises SystemExit when the state folder cannot be written to: nothing could then be answered."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        give_up(f"{folder}, which keeps what was withdrawn, cannot be written to ({error.strerror}); see serve.state")


def check_port() -> None:
    """Raises SystemExit when `bentoml serve` was told to listen where it cannot."""
    context = click.get_current_context(silent=True)
    host, port = (context.params.get(name) for name in ("host", "port")) if context else (None, None)
    if host is None or port is None:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
            attempt.listen()
        except (OSError, OverflowError) as error:
            give_up(f"it cannot listen on {host}, port {port} ({getattr(error, 'strerror', None) or error})")
