"""Files that are either complete or absent, whatever happens while they are written."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.stage import StageError


def write_atomic(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` through a temporary file, fsync and rename.

    A reader sees the old file or the new one, never a part; a crash leaves the old one. Raises
    OSError (a full disk, say) after removing the temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)  # of a killed run
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself must survive a power cut
    finally:
        os.close(directory)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write ``content`` unless ``path`` already holds it; True when it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write_atomic(path, content)
    return True


def json_bytes(document: Mapping[str, object]) -> bytes:
    """The one spelling of a JSON file here: two spaces, a final newline, no NaN."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_json(path: Path, mend: str = "delete it and run `dvc repro`") -> dict[str, Any]:
    """A JSON file that an earlier stage wrote.

    Raises StageError when it is missing or damaged; ``mend`` says what to do about a damaged one.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StageError(f"{path} is missing; run `dvc repro`") from None
    except ValueError as error:
        raise StageError(f"{path} is damaged ({error}); {mend}") from error
    if not isinstance(document, dict):
        raise StageError(f"{path} is damaged (no JSON object); {mend}")
    return document


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A table with a header line and plain line ends."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return table.getvalue().encode()


def remove(path: Path) -> None:
    """Delete a file or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed .npz whose bytes depend on the arrays alone (no clock in it)."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
