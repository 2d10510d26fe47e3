"""What is known of a sample without opening a picture: by shard files, members index and suppression memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from training.data.placement import subject_of
from training.data.shard_files import held_prints
from training.data.store import readable_shards
from training.data.subject_samples import samples_by_subject, with_samples
from training.memory.members import Members, read_all
from training.memory.suppressed import Memory
from training.publish.asked import valid_params
from training.publish.history import withdrawn_models
from training.publish.memory import open_memory
from training.publish.opening import open_ledger
from training.workspace import Workspace


@dataclass(frozen=True)
class Known:
    """``memory``: what is suppressed. ``tables``: by the SHA-256 of a model that may answer, whom it saw."""

    workspace: Workspace
    memory: Memory
    tables: Mapping[str, Members]

    @cached_property
    def trained(self) -> dict[str, tuple[int, int]]:
        """Shard and slice of every sample in the shard files that can be read."""
        places = {}
        for shard in readable_shards(self.workspace.shards_folder):
            shard_id = int(shard.path.stem.removeprefix("shard-"))
            places.update(
                {name: (shard_id, slice_id) for name, slice_id in zip(shard.ids, shard.slices.tolist(), strict=True)}
            )
        return places

    @cached_property
    def of_subject(self) -> dict[str, list[str]]:
        """By subject the ids of all samples that are known to be theirs."""
        return samples_by_subject(self.workspace)

    def models_that_saw(self, name: str) -> set[str]:
        """By SHA-256, every model that saw a sample, or one of a subject's, and was not withdrawn."""
        of_subject = self.of_subject if subject_of(name) is not None else {}
        keys = [self.memory.secret.of_id(each) for each in with_samples(name, of_subject)]
        return {sha256 for sha256, table in self.tables.items() if any(key in table.slices for key in keys)}

    def is_sample(self, sample_id: str) -> bool:
        """Whether this was ever a sample or a subject here, or is a file of the source. True where nothing is known."""
        if not self.trained and not self.tables:
            return True
        subject = subject_of(sample_id)
        if subject is not None:
            return subject in self.of_subject or self.memory.suppresses(sample_id)
        return (
            sample_id in self.trained
            or self.memory.secret.of_id(sample_id) in self.memory.known
            or bool(self.models_that_saw(sample_id))
            or self.is_file_of_the_source(sample_id)
        )

    def called_now(self, sample_id: str) -> list[str]:
        """The ids of now of a picture that was trained on under this one, and is no longer called so."""
        if sample_id in self.trained:
            return []
        key = self.memory.secret.of_id(sample_id)
        contents = {table.suppressed(key).content for table in self.tables.values() if key in table.positions} - {None}
        if not contents:
            return []
        held = held_prints(self.workspace)
        of_print = self.memory.secret.of_print
        return [name for name, prints in held.items() if of_print("content", prints.content).hex() in contents]

    def is_file_of_the_source(self, sample_id: str) -> bool:
        """Whether a picture of this id lies in an image folder."""
        params, path = valid_params(self.workspace), PurePosixPath(sample_id)
        if (
            params is None
            or params.data.source != "imagefolder"
            or path.is_absolute()
            or ".." in path.parts
            or str(path) != sample_id
        ):
            return False
        return (self.workspace.source_folder(params) / "train" / sample_id).is_file()


def look_up(workspace: Workspace) -> Known:
    """Raises MemoryLostError and LedgerError when those are damaged."""
    with workspace.publish_lock():
        entries = open_ledger(workspace).read()
        gone = withdrawn_models(entries)
        tables = {sha256: table for sha256, table in read_all(workspace.members_folder).items() if sha256 not in gone}
        return Known(workspace, open_memory(workspace, entries), tables)
