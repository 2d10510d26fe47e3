"""The ledger: what was asked, withdrawn and published when, a JSON object a line, each with the hash of the one before.

There are two copies. ``.sisa/ledger.jsonl`` is the authoritative one, which neither git nor DVC ever
replaces; ``models/ledger.jsonl`` is its export, for git and for clones. They must continue each
other: the shorter one is extended, and two that differ are an error that a person has to resolve
(docs/ledger.md).
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from training.errors import LedgerError
from training.files import sync_folder, write_atomic
from training.publish.events import ENTRY, Entry

logger = logging.getLogger(__name__)

FIRST = "0" * 64  # stands where the first line would have the hash of the one before


class Ledger:
    """Read and append under ``Workspace.publish_lock``; reading alone needs no lock."""

    def __init__(self, file: Path, export: Path) -> None:
        self._file, self._export = file, export
        self._parsed: tuple[list[bytes], list[Entry]] = ([], [])  # a command reads it again after each entry

    def read(self) -> list[Entry]:
        """Every entry, its link to the one before checked.

        Raises LedgerError when an entry is damaged, missing or not linked, or when the two copies differ.
        """
        return self._parse(self._lines())

    def reconcile(self) -> list[Entry]:
        """``read``, and bring both copies to the same length."""
        lines = self._lines()
        entries = self._parse(lines)
        content = b"".join(lines)
        for path in (self._file, self._export):
            if (path.read_bytes() if path.is_file() else b"") != content:
                write_atomic(path, content)
        return entries

    def append(self, entry: Entry) -> None:
        """Add an entry to both copies; the first one, flushed to the disk, is what counts.

        A copy that lacks entries which the other has gets them first, or these would be lost, and what was cut off
        while it was written goes. Raises OSError when it cannot be written; the ledger is then as it was.
        """
        line = encode(entry)
        if (self._file.read_bytes() if self._file.is_file() else b"") != b"".join(self._lines()):
            self.reconcile()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab", buffering=0) as file:  # else closing it would write once more what was taken back
            length = file.tell()
            try:
                if (written := file.write(line)) != len(line):
                    raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes could be written", str(self._file))
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(length)
                raise
        sync_folder(self._file.parent)
        write_atomic(self._export, self._file.read_bytes())

    def stamp(self) -> dict[str, object]:
        """Number, time, actor and link of the next entry."""
        lines = self._lines()
        return {
            "number": len(lines) + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "actor": actor(),
            "previous": hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST,
        }

    def _parse(self, lines: list[bytes]) -> list[Entry]:
        """Only what follows the lines that were parsed before is parsed; a copy, which the caller may keep."""
        known, entries = self._parsed
        if lines[: len(known)] != known:
            known, entries = [], []
        self._parsed = lines, [*entries, *parse(lines[len(known) :], known)]
        return list(self._parsed[1])

    def _lines(self) -> list[bytes]:
        ours, theirs = whole_lines(self._file), whole_lines(self._export)
        shorter, longer = sorted((ours, theirs), key=len)
        if longer[: len(shorter)] != shorter:
            raise LedgerError(
                f"the ledger's two copies differ: {self._file} ends in {head(ours)}, {self._export} in {head(theirs)}, "
                "and neither continues the other. Nothing was changed. docs/ledger.md says how to find out which one "
                "is right and how to keep it"
            )
        return longer


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a copy; one that was cut off while it was written (it has no line end) does not count."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    if lines and not lines[-1].endswith(b"\n"):
        logger.warning("%s: its last line was cut off while it was written and does not count", path)
        lines.pop()
    return lines


def parse(lines: Sequence[bytes], before: Sequence[bytes] = ()) -> list[Entry]:
    """The entries of lines that follow those ``before``.

    Raises LedgerError naming the first line that is damaged or not linked to the one before.
    """
    entries: list[Entry] = []
    previous = hashlib.sha256(before[-1]).hexdigest() if before else FIRST
    for number, line in enumerate(lines, start=len(before) + 1):
        try:
            entry = ENTRY.validate_json(line)
        except ValidationError as error:
            raise LedgerError(f"line {number} of the ledger is damaged ({error}); see docs/ledger.md") from error
        if (entry.number, entry.previous) != (number, previous):
            raise LedgerError(
                f"line {number} of the ledger is not linked to the one before: an entry was changed or removed; "
                "see docs/ledger.md"
            )
        entries.append(entry)
        previous = hashlib.sha256(line).hexdigest()
    return entries


def encode(entry: Entry) -> bytes:
    """One line."""
    document = entry.model_dump(mode="json")
    for name in ("pending", "earlier_slice", "transcript"):
        if not document.get(name, True):
            del document[name]  # a line is spelt as it was before there was such a field
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def head(lines: Sequence[bytes]) -> str:
    """A copy's last entry, in words."""
    if not lines:
        return "nothing"
    return f"entry {len(lines)} ({hashlib.sha256(lines[-1]).hexdigest()[:16]})"


def actor() -> str:
    """The system's user; its number where it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
