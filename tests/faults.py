"""What can be wrong with files, made as a system makes it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("/nowhere/at/all.png")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def socket_file(path: Path) -> None:
    """The file that a server leaves when it is killed. Its address is short: a path may have 107 characters."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}" if Path("/proc/self/fd").exists() else str(path))
    finally:
        os.close(folder)


NO_FILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "link to nowhere": (link_to_nowhere, "a link to nowhere"),
    "link to itself": (link_to_itself, "a link to nowhere"),
    "FIFO": (fifo, "not a file, but a device, a FIFO or a socket"),
    "device": (link_to_a_device, "not a file, but a device, a FIFO or a socket"),
    "socket": (socket_file, "not a file, but a device, a FIFO or a socket"),
}


def as_an_ordinary_user(*command: str) -> list[str]:
    """The command without the right to read what permissions forbid, which root has."""
    capabilities = "-dac_override,-dac_read_search"
    return [*(["setpriv", "--bounding-set", capabilities] if os.geteuid() == 0 else []), *command]


class Stopped(BaseException):
    """The process dies here."""


def stopped_at_sync(step: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Call ``action`` and let it die when it would flush a file for the ``step``-th time, from 0; whether it did."""
    left, sync = step, os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal left
        if left == 0:
            raise Stopped
        left -= 1
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        try:
            action()
        except Stopped:
            return True
    return False
