"""The suppression memory, ``.sisa/suppressed.jsonl``: what was forgotten, so that it stays forgotten.

Without it a forgotten sample would come back with the next copy of its picture, or with a list that is shorter.
It names nothing: of each sample it has digests under the workspace's secret, and what its picture looks like. One
JSON object a line, appended, never changed; the ledger has each line's digest, so that a lost one is noticed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import MemoryLostError
from training.files import sync_folder
from training.memory.secret import RESTORE, Secret, read_secret

logger = logging.getLogger(__name__)


class Suppressed(BaseModel):
    """A forgotten sample. In hex, under the secret: ``id``; ``content`` of its file; its ``upright`` pixels.

    ``look``: the perceptual hash of its picture, in hex. What is not known is None: a picture may have been gone
    before anybody asked. ``subject``: true of a subject's name, which is no sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    content: str | None = None
    upright: str | None = None
    look: str | None = None
    subject: bool | None = None


ALL = ""  # no request is called so


class Batch(BaseModel):
    """A line. ``forget``: a list or request asks for the samples; ``reinstate``: it no longer does, or none does.

    ``request``: the list or request; ``ALL`` for a reinstatement whoever asked. ``time``: UTC, ISO 8601. ``secret``:
    the name of the secret. ``reason``: of a reinstatement.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    event: Literal["forget", "reinstate"]
    request: str
    time: str
    actor: str
    secret: str
    reason: str | None = None
    samples: tuple[Suppressed, ...] = Field(min_length=1)

    def to_line(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode() + b"\n"

    @property
    def count(self) -> int:
        """How many samples it is about, names of subjects left out."""
        return sum(not sample.subject for sample in self.samples)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the line, which the ledger keeps."""
        return hashlib.sha256(self.to_line()).hexdigest()


@dataclass(frozen=True)
class Memory:
    """All that is remembered; ``secret``: under which the digests are. ``batches``: in their order.

    By the digest of its id, for all that is suppressed now: ``samples``, and in ``asked`` the lists and requests that
    ask for it, the first one first. A sample is suppressed as long as one does.
    """

    secret: Secret
    batches: tuple[Batch, ...] = ()

    @cached_property
    def samples(self) -> dict[bytes, Suppressed]:
        samples: dict[bytes, Suppressed] = {}
        for batch in self.batches:
            for sample in batch.samples:
                key = bytes.fromhex(sample.id)
                if key in self.asked and (key not in samples or sample.content is not None):
                    samples[key] = sample
        return samples

    @cached_property
    def asked(self) -> dict[bytes, tuple[str, ...]]:
        asked: dict[bytes, tuple[str, ...]] = {}
        for batch in self.batches:
            for sample in batch.samples:
                key = bytes.fromhex(sample.id)
                others = tuple(name for name in asked.get(key, ()) if name != batch.request)
                if batch.event == "forget":
                    asked[key] = asked[key] if len(others) < len(asked.get(key, ())) else (*others, batch.request)
                else:
                    asked[key] = () if batch.request == ALL else others
        return {key: requests for key, requests in asked.items() if requests}

    def suppresses(self, sample_id: str) -> bool:
        """Whether a sample of this id was forgotten, and not reinstated since."""
        return self.secret.of_id(sample_id) in self.samples

    def allows(self, key: bytes, forgotten: bytes) -> bool:
        """Whether a sample was reinstated after the one that it is a copy of had been forgotten; by digests of ids.

        What is forgotten later it was not reinstated against.
        """
        reinstated, _ = self._last
        return key not in self.samples and reinstated.get(key, -1) > self._last[1].get(forgotten, -1)

    @cached_property
    def _last(self) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """By the digests of their ids, in which line samples were reinstated and in which asked for, the last time."""
        lines: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        for number, batch in enumerate(self.batches):
            lines[batch.event == "forget"].update((bytes.fromhex(sample.id), number) for sample in batch.samples)
        return lines

    @cached_property
    def known(self) -> frozenset[bytes]:
        """The digests of the ids of all that was ever forgotten, also of what was reinstated since."""
        return frozenset(bytes.fromhex(sample.id) for batch in self.batches for sample in batch.samples)

    def requests(self) -> dict[bytes, str]:
        """By the digest of its id, the list or request that asked first for each suppressed sample."""
        return {key: requests[0] for key, requests in self.asked.items()}


def read_memory(secret_file: Path, suppressed_file: Path) -> Memory | None:
    """The suppression memory; None where there is neither a secret nor a line.

    Raises MemoryLostError when one of the two is missing or damaged, or when they do not belong together.
    """
    secret, batches = read_secret(secret_file), read_batches(suppressed_file)
    if secret is None:
        if batches:
            raise MemoryLostError(f"{secret_file} is missing, but {suppressed_file} was written under one: {RESTORE}")
        return None
    others = {batch.secret for batch in batches} - {secret.name}
    if others:
        raise MemoryLostError(
            f"{secret_file} is the secret {secret.name}, {suppressed_file} was written under {min(others)}: {RESTORE}"
        )
    return Memory(secret, batches)


def read_batches(path: Path) -> tuple[Batch, ...]:
    """Every whole line. Raises MemoryLostError naming the first that is damaged."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise MemoryLostError(f"{path} cannot be read ({error.strerror}); allow reading it") from error
    if lines and not lines[-1].endswith(b"\n"):
        logger.warning("%s: its last line was cut off while it was written and does not count", path)
        lines.pop()
    batches = []
    for number, line in enumerate(lines, start=1):
        try:
            batches.append(Batch.model_validate_json(line))
        except ValidationError as error:
            raise MemoryLostError(f"{path}: line {number} is damaged ({error}): {RESTORE}") from error
    return tuple(batches)


def append_batch(path: Path, batch: Batch) -> None:
    """Add a line; it is on the disk when this returns. Call it under ``Workspace.publish_lock``.

    A line that was cut off before is removed first. Raises OSError when it cannot be written; the file is then as
    it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        try:
            os.fchmod(file.fileno(), 0o600)
            file.write(batch.to_line())
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(whole)
            raise
    sync_folder(path.parent)


def same_lines(batches: Sequence[Batch], digests: Sequence[str], path: Path) -> None:
    """Raise MemoryLostError unless every line that the ledger knows of, by its digest, is there."""
    ours = [batch.digest for batch in batches]
    lost = set(digests) - set(ours)
    if lost:
        raise MemoryLostError(
            f"{path} lacks {len(lost)} of the {len(digests)} lines that the ledger knows of: {RESTORE}"
        )
    known = set(digests)
    if [digest for digest in ours if digest in known] != list(digests):
        raise MemoryLostError(f"{path} has its lines in another order than the ledger: {RESTORE}")
