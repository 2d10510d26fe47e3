"""Locks between processes, which the kernel lets go of when their holder dies, however it dies."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from training.errors import BusyError

logger = logging.getLogger(__name__)


@contextmanager
def hold(folder: Path, name: str, what: str, *, wait: bool = True) -> Iterator[None]:
    """Hold ``folder``/``name``.lock for this process; log for whom it waits while another one holds ``what``.

    Raises BusyError instead of waiting, where it is not to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / f"{name}.lock"), folder / f"{name}.holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.is_file() else "another process"
        if not wait:
            raise BusyError(f"{what}: process {who} is at it") from None
        logger.warning("%s: waiting for process %s, which is working on it", what, who)
        lock.acquire()
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()
