"""What must not be found any more: models and checkpoints of before, and what is known of forgotten samples."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.manifest import Manifest
from training.data.duplicates import How, by_print, match_files, match_pictures
from training.data.prints import NOTHING
from training.memory.suppressed import Memory
from training.publish.events import Entry, Imported, Published
from training.publish.history import last_published, withdrawn_models


@dataclass(frozen=True)
class Superseded:
    """``models``: hex SHA-256 of every model that was published once and is not now. ``keys``: of slices that no
    model of today was trained on top of. ``memory``: of what is forgotten; None where nothing is."""

    models: frozenset[str]
    keys: frozenset[str]
    memory: Memory | None

    @cached_property
    def contents(self) -> Set[str]:
        """Digests of forgotten samples' files, under the secret, in hex."""
        return frozenset() if self.memory is None else by_print(self.memory.samples, "content").keys()

    def shows(self, content: bytes) -> bool:
        """Whether a file is a forgotten picture's; ``content``: its SHA-256."""
        return self.memory is not None and self.memory.secret.of_print("content", content).hex() in self.contents

    def among(self, ids: Sequence[str], prints: NDArray[np.void]) -> int:
        """How many of these samples have the file or the pixels of a forgotten one.

        Its id tells only where no print is known, as in files of version 0.2.0: the test split has ids of its own.
        """
        if self.memory is None or not self.memory.samples:
            return 0
        secret, records = self.memory.secret, self.memory.samples
        contents = [row.tobytes() for row in prints["content"]]
        by_file = {m.index for m in match_files(secret, records, ids, contents, by_id=False)}
        by_id = {
            m.index
            for m in match_files(secret, records, ids, contents)
            if m.how is How.ID and contents[m.index] == NOTHING
        }
        by_picture = {m.index for m in match_pictures(secret, records, range(len(ids)), prints) if m.exact}
        return len(by_file | by_id | by_picture)


def superseded(entries: Sequence[Entry], manifest: Manifest | None, memory: Memory | None) -> Superseded:
    """By the ledger, beside what is published."""
    every = {
        shard.sha256
        for entry in entries
        if isinstance(entry, Imported | Published)
        for shard in entry.shards
        if shard.sha256 is not None
    }
    now = set() if manifest is None else {shard.sha256 for shard in manifest.voters}
    last = last_published(entries)
    kept = {key for shard in (() if last is None else last.shards) for key in shard.keys}
    keys = {key for entry in entries if isinstance(entry, Published) for shard in entry.shards for key in shard.keys}
    return Superseded(frozenset((every | withdrawn_models(entries)) - now), frozenset(keys - kept), memory)
