"""The suppression memory and the members index, as the ledger calls for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from training.chain.keys import sample_digests
from training.chain.merkle import merkle_root
from training.data.store import load_shard
from training.errors import DamagedError, MemoryLostError
from training.files import write_atomic
from training.memory.members import Members, make_members, read_members, write_members
from training.memory.secret import RESTORE, Secret, make_secret
from training.memory.suppressed import Memory, read_memory, same_lines
from training.publish.events import Entry
from training.publish.history import remembered_batches
from training.publish.record import ShardRecord
from training.workspace import Workspace


def open_memory(workspace: Workspace, entries: Sequence[Entry]) -> Memory:
    """The suppression memory; a new secret where nothing was ever forgotten, unless this is an experiment.

    Raises MemoryLostError when it lacks anything that the ledger knows was forgotten.
    """
    memory, known = read_memory(workspace.secret_file, workspace.suppressed_file), remembered_batches(entries)
    if memory is None:
        if known:
            raise MemoryLostError(
                f"{workspace.secret_file} is missing, but the ledger says that samples were forgotten here: what they "
                f"were is known under it alone, and nothing may be trained or forgotten without it. {RESTORE}"
            )
        if workspace.is_experiment:
            raise MemoryLostError(
                f"{workspace.secret_file} is missing; run `dvc repro` in the project once before any experiment"
            )
        memory = Memory(make_secret(workspace.secret_file))
    same_lines(memory.batches, known, workspace.suppressed_file)
    if not workspace.is_experiment:
        drop_foreign_tables(workspace.members_folder, memory.secret)
    return memory


def drop_foreign_tables(folder: Path, secret: Secret) -> None:
    """Delete members tables that were written under another secret: nobody can look anything up in them any more."""
    mark = folder / "secret"
    if mark.is_file() and mark.read_text() == secret.name:
        return
    for path in folder.glob("*.npy"):
        path.unlink()
    write_atomic(mark, secret.name.encode(), mode=0o600)


def ensure_members(workspace: Workspace, secret: Secret, sha256: str, record: ShardRecord) -> Members:
    """What a model was trained on: as it was written down, or of the shard file that its record commits to.

    ``sha256``: of the model's file. Raises DamagedError when there is no table, and the shard file is missing or not
    the one that the model was trained on.
    """
    path = workspace.members_file(sha256)
    try:
        return read_members(path)
    except FileNotFoundError:
        pass
    shard = load_shard(workspace.shard_file(record.shard))
    if merkle_root(sample_digests(shard)) != record.merkle_root:
        raise DamagedError(
            f"{shard.path} is not what the model of shard {record.shard} was trained on, so it is not known whom it saw"
        )
    members = make_members(secret, shard.ids, shard.slices.tolist(), shard.prints)
    write_members(path, members)
    return members


def touched(members: Members, memory: Memory) -> list[bytes]:
    """The suppressed samples that a model saw, by the digests of their ids."""
    return [digest for digest in memory.samples if digest in members.slices]


def forget_members(workspace: Workspace, keep: Collection[str]) -> None:
    """Delete the tables of all models but ``keep``."""
    for path in workspace.members_folder.glob("*.npy"):
        if path.stem not in keep:
            path.unlink()
