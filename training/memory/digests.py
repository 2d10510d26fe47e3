"""Digests of files, remembered under inode, size and times: a file that is as it was is not read again.

As git's index does it. A file that was written while it was looked at, or moments before, may be written again
within the same tick of the clock and then looks the same ("racily clean"): its digest is kept, but the file is read
again the next time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from training.errors import ChangedError

# Inode, size, mtime and ctime in ns, hex SHA-256 of the content. A ctime of 0, which no file has: not to be trusted.
Seen = tuple[int, int, int, int, str]

RACY_NS = 2_000_000_000  # the coarsest clock of a file system in use, FAT's


class FileDigests:
    """The digests of files below ``folder``, by their names there.

    ``before``: what was seen the last time. Without it, everything is read. ``seen``: what has been asked for of this
    one; whoever keeps it gives it to the next one.
    """

    def __init__(self, folder: Path, before: Mapping[str, Seen] | None = None) -> None:
        self._folder, self._before = str(folder), before or {}
        self.seen: dict[str, Seen] = {}

    def digest(self, name: str) -> bytes:
        """SHA-256 of the file's content, 32 bytes.

        Raises OSError when it cannot be read, ChangedError when it is written meanwhile.
        """
        path = os.path.join(self._folder, name)  # noqa: PTH118 – tens of thousands of times, and a Path takes longer
        known = self._before.get(name)
        if known is None or known[:4] != _stamp(os.stat(path)):  # noqa: PTH116
            known = _read(path)
        self.seen[name] = known
        return bytes.fromhex(known[4])


def _read(path: str) -> Seen:
    started = time.time_ns()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        before = _stamp(os.fstat(file.fileno()))
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = _stamp(os.fstat(file.fileno()))
    if before != after:
        raise ChangedError(f"{path} changed while it was read; run it again")
    inode, size, mtime_ns, ctime_ns = after
    # Pictures may bear any mtime, as one in the future; a ctime there tells of a server's clock that is ahead.
    racy = ctime_ns > started - RACY_NS or abs(mtime_ns - started) < RACY_NS
    return inode, size, mtime_ns, 0 if racy else ctime_ns, digest


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
