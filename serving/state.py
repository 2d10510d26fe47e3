"""What the service must remember across restarts: the highest generation seen, and the models that were withdrawn.

Each is one small JSON file, replaced in one step under a lock, and common to all who share the folder:
workers, and replicas that mount it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import BaseModel, Field, ValidationError

from serving.ensemble.manifest import EnsembleUnavailable

# What tells one state of a file from another. The inode's change time is among it, since renaming an
# old file back keeps all the rest.
Mark = tuple[int, int, int, int]

LOCK_SECONDS = 10.0  # who holds a lock for longer has stopped; OSError says which file it is

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def mark(path: Path) -> Mark | None:
    """One ``stat``; None when there is no such file. One that cannot be looked at is not taken for missing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - three of them a request, and this is the faster one
    except FileNotFoundError:
        return None
    except OSError as error:
        return 0, 0, 0, error.errno or 0
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


@dataclass(frozen=True)
class Floor:
    """The highest generation seen.

    ``lowest``: the least that may be served where none has been seen, given at deployment; 0 for any.
    """

    path: Path
    lowest: int = 0

    def read(self) -> tuple[int, str | None]:
        """(generation, digest of its manifest); (0, None) before the first.

        Raises EnsembleUnavailable when the file is damaged.
        """
        try:
            document = json.loads(self.path.read_bytes())
            return int(document["generation"]), str(document["manifest_sha256"])
        except FileNotFoundError:
            return 0, None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnsembleUnavailable(
                f"{self.path}, the highest generation seen, cannot be read ({error!r}); "
                "delete it if what is published now is what should be served"
            ) from error

    def admit(self, generation: int, digest: str) -> None:
        """Raise the floor to ``generation``.

        Raises EnsembleUnavailable when a higher one was seen or asked for, or this one with another manifest.
        """
        if generation < self.lowest:
            raise EnsembleUnavailable(
                f"generation {generation} is published, but this service was deployed to answer from {self.lowest} "
                "or a later one (SISA_SERVE_MIN_GENERATION); publish a newer one, or set it lower to go back on purpose"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock"), LOCK_SECONDS):
            highest, known = self.read()
            advice = f"publish a newer one, or delete {self.path} to go back on purpose"
            if generation < highest:
                raise EnsembleUnavailable(
                    f"generation {generation} is published, but {highest} has been seen; serving the older one "
                    f"could answer from what was forgotten since. {advice}"
                )
            if generation == highest and digest != known:
                raise EnsembleUnavailable(
                    f"generation {generation} is published with another manifest than the one seen. {advice}"
                )
            if generation > highest:
                _replace(self.path, json.dumps({"generation": generation, "manifest_sha256": digest}))


class _Withdrawals(BaseModel):
    """The file: digest to the time at which it was withdrawn, UTC, ISO 8601."""

    withdrawn: dict[Digest, str]


class Withdrawn:
    """The digests of models that must never answer again, whatever manifest lists them. It only grows.

    It is kept twice. ``path``, in the state folder, counts; ``copy`` lies beside the manifest, for replicas that
    share that volume and no state, and is written where this process may write there. Either is believed.
    """

    def __init__(self, path: Path, copy: Path) -> None:
        self._path, self._copy = path, copy
        self._seen: frozenset[str] = frozenset()  # by this process: a list that has lost one of them is damaged

    @property
    def marks(self) -> tuple[Mark | None, Mark | None]:
        """Two ``stat``; they change with every digest that is added."""
        return mark(self._path), mark(self._copy)

    def read(self) -> frozenset[str]:
        """Hex SHA-256 of every model withdrawn so far.

        Raises EnsembleUnavailable when a list is damaged, or when together they lack what they held before.
        """
        seen = self._seen  # before the files: a thread that is adding may be ahead of them
        known = frozenset(_read(self._path).keys() | _read(self._copy).keys())
        if lost := seen - known:
            raise EnsembleUnavailable(
                f"{self._path} lacks {len(lost)} of the models that were withdrawn, {min(lost)} among them; "
                "nothing is answered until it is restored"
            )
        self._seen |= known
        return known

    def add(self, digests: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Withdraw, on the disk when this returns; (those that were not withdrawn before, all there are now).

        Raises EnsembleUnavailable when a list is damaged, OSError when one cannot be written that could be before.
        """
        wanted = frozenset(digests)
        before = self.read()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _extend(self._path, wanted)
        if os.access(self._copy.parent, os.W_OK):  # else it is mounted to be read alone, or not there
            _extend(self._copy, wanted)
        return wanted - before, self.read()


def _read(path: Path) -> dict[str, str]:
    """Raises EnsembleUnavailable when the list is damaged; one that is missing is empty."""
    try:
        return _Withdrawals.model_validate_json(path.read_bytes()).withdrawn
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise EnsembleUnavailable(
            f"{path}, the models that were withdrawn, cannot be read ({error}); nothing is answered until it "
            "is restored from a backup, or replaced by the same list from another replica"
        ) from error


def _extend(path: Path, digests: frozenset[str]) -> None:
    with FileLock(path.with_suffix(".lock"), LOCK_SECONDS):
        known = _read(path)
        if fresh := sorted(digests - known.keys()):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            _replace(path, _Withdrawals(withdrawn=known | dict.fromkeys(fresh, now)).model_dump_json(indent=1))
        else:  # whoever added them may have been stopped between the rename and this
            _sync(path.parent)


def _replace(path: Path, text: str) -> None:
    """Put ``text`` at ``path`` in one step, on the disk when this returns. Call it under the file's lock."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        leftover.unlink()  # of a process that was killed
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()  # a full disk would get one more each time it is tried again
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
