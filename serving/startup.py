"""What would keep the service from starting, found before it starts: one line in the log and exit status 2."""

from __future__ import annotations

import ipaddress
import logging
import socket
import tempfile
from pathlib import Path
from typing import NoReturn

import click
from bentoml._internal.configuration.containers import BentoMLContainer

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
    """Raises SystemExit when `bentoml serve` would listen where it cannot."""
    context = click.get_current_context(silent=True)
    if context is None or "port" not in context.params:  # not started by that command
        return
    defaults = BentoMLContainer.http
    host, port = context.params["host"] or defaults.host.get(), context.params["port"] or defaults.port.get()
    try:
        version = ipaddress.ip_address(host).version
        with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((host, port))
            attempt.listen()
    except (OSError, OverflowError, ValueError) as error:  # of a port too high, of a name in an address's place
        give_up(f"it cannot listen on {host}, port {port} ({getattr(error, 'strerror', None) or error})")
