"""Which ids there ever were: one of them that is not in the source is already gone, any other one is misspelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from training.data.forget_list import Entry, ids_digest
from training.data.store import readable_shards
from training.data.summary import read_summary
from training.errors import DamagedError
from training.memory.members import read_all
from training.memory.suppressed import read_memory
from training.workspace import Workspace


def was_sample(workspace: Workspace, lists: Sequence[Entry]) -> Callable[[str], bool]:
    """Whether an id is in the last shard files, the members index or the suppression memory.

    Lists that are as the last partition took them are known as a whole: also where an earlier version took them,
    which remembered nothing. Raises MemoryLostError when memory or index are damaged.
    """
    memory = read_memory(workspace.secret_file, workspace.suppressed_file)
    seen = set[bytes]().union(*(table.slices.keys() for table in read_all(workspace.members_folder).values()))
    named = {entry.sample_id for entry in lists}
    known = trained(workspace) | (named if ids_digest(named) in accepted(workspace) else set())

    def was(sample_id: str) -> bool:
        if sample_id in known:
            return True
        return memory is not None and (memory.suppresses(sample_id) or memory.secret.of_id(sample_id) in seen)

    return was


def trained(workspace: Workspace) -> set[str]:
    """The ids in the shard files that can be read."""
    ids: set[str] = set()
    for shard in readable_shards(workspace.shards_folder):
        ids.update(shard.ids)
        shard.release_pages()
    return ids


def accepted(workspace: Workspace) -> tuple[str, ...]:
    """The digests of the lists that the last partition took."""
    try:
        last = read_summary(workspace.partition_file)
    except DamagedError:
        return ()
    return last.forgotten.sha256, last.monitored.sha256
