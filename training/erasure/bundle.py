"""What every check looks at, read once: the ledger, what is published, and what is known of each shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from serving.ensemble.manifest import Manifest
from training.chain.initial_weights import initial_weights_digest
from training.chain.plan import ShardPlan, make_plan
from training.data.features import Features, read_features
from training.data.store import Shard, load_shard
from training.errors import UncheckedError, VerifyError
from training.learning import FrozenNetwork
from training.memory.suppressed import Memory, read_memory
from training.params import Params
from training.publish.events import Entry
from training.publish.history import absent, last_published, read_history, remembered_batches
from training.publish.opening import published_now
from training.publish.record import ShardRecord
from training.workspace import Workspace


@dataclass(frozen=True)
class Bundle:
    """A workspace as it is verified. Properties raise SisaErrors when what they read is missing or damaged."""

    workspace: Workspace

    @cached_property
    def params(self) -> Params:
        return self.workspace.read_params()

    @cached_property
    def entries(self) -> list[Entry]:
        return read_history(self.workspace)

    @cached_property
    def manifest(self) -> Manifest:
        manifest = published_now(self.workspace)
        if manifest is None:
            raise VerifyError(f"{self.workspace.manifest_file} is missing or is not a manifest; run `sisa publish`")
        return manifest

    @cached_property
    def memory(self) -> Memory | None:
        """What is forgotten; None where nothing ever was."""
        memory = read_memory(self.workspace.secret_file, self.workspace.suppressed_file)
        if memory is None and remembered_batches(self.entries):
            raise UncheckedError(
                f"{self.workspace.secret_file} is not here, so what was forgotten is not known; verify where the "
                "models were made, or restore .sisa/ from its backup"
            )
        return memory

    @cached_property
    def records(self) -> Mapping[int, ShardRecord]:
        """By shard what the ledger says of the model that answers for it; those that have none are left out."""
        last = last_published(self.entries)
        if last is None:
            raise UncheckedError("no generation was published since there is a ledger; run `dvc repro`")
        away = absent(last) | {shard.shard for shard in self.manifest.shards if shard.pending}
        return {record.shard: record for record in last.shards if record.shard not in away}

    def shard(self, shard_id: int) -> Shard:
        return load_shard(self.here(self.workspace.shard_file(shard_id)))

    def features(self, shard_id: int) -> Features | None:
        """Of a frozen backbone; None where training sees images."""
        if not isinstance(self.params.network, FrozenNetwork):
            return None
        return read_features(self.here(self.workspace.features_file(shard_id)))

    def here(self, path: Path) -> Path:
        """Raises UncheckedError where there is no such file, as in a clone that was not given all of it."""
        if not path.is_file():
            raise UncheckedError(f"{path} is not here; run `dvc pull`, or verify where the models were made")
        return path

    @cached_property
    def plans(self) -> dict[int, ShardPlan]:
        """By shard what today's samples, parameters and code call for, computed again."""
        weights = initial_weights_digest(self.workspace.root, self.params.network)
        plans = {}
        for shard_id in self.params.sisa.shards:
            shard, features = self.shard(shard_id), self.features(shard_id)
            rows = None if features is None else features.of(shard)
            plans[shard_id] = make_plan(
                self.params, shard_id, len(self.manifest.classes), weights, shard, features=rows
            )
        return plans
