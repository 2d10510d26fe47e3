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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from training.errors import DamagedError

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """A file that is complete and synced, but does not stand at ``path`` yet."""

    path: Path
    temporary: Path

    def put(self) -> None:
        """Let it take the place of ``path``, in one step."""
        self.temporary.replace(self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        self.temporary.unlink(missing_ok=True)


@contextmanager
def drafting(path: Path, mode: int = 0o644) -> Iterator[tuple[BinaryIO, Draft]]:
    """A file to write, and the draft that it is when the block ends.

    Raises OSError (a full disk, say) after removing the temporary file, as any exception does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not is_running(leftover.name.split(".")[-3]):
            leftover.unlink(missing_ok=True)  # of a killed run
    prefix = f".{path.name}.{os.getpid()}."
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    draft = Draft(path, Path(name))
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file, draft
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except BaseException:
        draft.discard()
        raise


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` when the block ends, through fsync and rename.

    A reader sees the old file or the new one, never a part; a crash or an exception leaves the old
    one. Raises as ``drafting`` does.
    """
    with drafting(path, mode) as (file, draft):
        yield file
    try:
        draft.put()
    except BaseException:
        draft.discard()
        raise


def is_running(process: str) -> bool:
    """Whether a process of this number is there; False for what is not a number."""
    if not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put ``content`` at ``path``; see ``replacing``."""
    with replacing(path, mode) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write ``content`` unless ``path`` already holds it; True when it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write_atomic(path, content)
    return True


def json_bytes(document: Mapping[str, object]) -> bytes:
    """How JSON files are formatted: two spaces, a final newline, no NaN."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that an earlier run wrote. Raises DamagedError when it is missing or damaged."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
    if not isinstance(document, dict):
        raise DamagedError(f"{path} is damaged (it holds {type(document).__name__}, expected an object)")
    return document


def read_model(path: Path, model: TypeAdapter[T]) -> T:
    """What an earlier run wrote as JSON, validated. Raises DamagedError when it is missing or damaged."""
    try:
        return model.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error})") from error
    except ValidationError as error:
        raise DamagedError(f"{path} is damaged ({error})") from error


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


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
