"""A workspace: one folder with parameters, data, models and reports. It knows every path and every lock in it.

Nothing else in ``training/`` holds a path: stages and the command make a Workspace of the folder they are started in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from training.blocks import BLOCKS, block_folder, block_of
from training.erasure_files import ErasureFiles
from training.errors import ParamsError
from training.experiments import in_experiment, project_of
from training.locks import hold
from training.params import Params, load_params


@dataclass(frozen=True)
class Workspace:
    root: Path  # paths are absolute, below it; the names are those of dvc.yaml

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.resolve())

    def read_params(self) -> Params:  # as they are now; raises ParamsError naming every key that cannot be used
        return load_params(self.root / "params.yaml")

    @cached_property
    def blocks(self) -> int:  # of shards; where parameters cannot be used no file is looked for in a block
        try:
            return self.read_params().sisa.blocks
        except ParamsError:
            return BLOCKS

    @property
    def is_experiment(self) -> bool:  # a trial: it publishes nothing, and knows nothing of what is forgotten meanwhile
        return in_experiment(self.root)

    @property
    def project_root(self) -> Path:  # what was forgotten is remembered there alone
        return project_of(self.root)

    def short(self, path: Path) -> str:  # as a person in the workspace would type it
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    # What is asked for.

    @property
    def forget_folder(self) -> Path:
        return self.root / "forget"

    @property
    def private_folder(self) -> Path:  # of requests that git is never told of
        return self.project_root / "forget/private"

    def source_folder(self, params: Params) -> Path:  # an absolute one is taken as it is
        return self.root / params.data.root

    def subjects_file(self, params: Params) -> Path | None:  # the table that says whom samples are of
        return None if params.data.subjects in ("none", "folder") else self.root / params.data.subjects

    # What is trained on.

    @property
    def shards_folder(self) -> Path:
        return self.root / "data/shards"

    @property
    def test_file(self) -> Path:
        return self.root / "data/test.npy"

    @property
    def partition_file(self) -> Path:
        return self.root / "data/partition.json"

    @property
    def poisoned_file(self) -> Path:
        return self.root / "data/poisoned.txt"

    @property
    def copies_file(self) -> Path:  # of what is forgotten
        return self.root / "data/copies.csv"

    def own_file(self, name: str) -> Path:  # of this folder, also in an experiment's copy
        return self.root / ".sisa" / name

    def shard_file(self, shard_id: int) -> Path:
        return self.shards_folder / f"shard-{shard_id}.npy"

    @property
    def features_folder(self) -> Path:  # of a frozen backbone
        return self.root / "data/features"

    def features_file(self, shard_id: int) -> Path:
        return self.features_folder / f"shard-{shard_id}.safetensors"

    @property
    def test_features_file(self) -> Path:
        return self.features_folder / "test.safetensors"

    # What is made of it.

    @property
    def models_folder(self) -> Path:
        return self.root / "models"

    @property
    def plan_folder(self) -> Path:
        return self.models_folder / "plan"

    @property
    def checkpoints_folder(self) -> Path:
        return self.models_folder / "checkpoints"

    @property
    def graphs_folder(self) -> Path:  # networks without weights: a cache that may be deleted
        return self.models_folder / "graphs"

    @property
    def exports_folder(self) -> Path:
        return self.models_folder / "exports"

    @property
    def release_file(self) -> Path:
        return self.models_folder / "release.json"

    def plan_file(self, shard_id: int) -> Path:
        return self.plan_folder / f"shard-{shard_id}.json"

    def block_plan_file(self, block: int) -> Path:  # all that DVC looks at to run a block's stage
        return self.plan_folder / f"block-{block}.json"

    def checkpoint_folder(self, shard_id: int) -> Path:
        return block_folder(self.checkpoints_folder, block_of(shard_id, self.blocks)) / f"shard-{shard_id}"

    def checkpoint_file(self, shard_id: int, slice_id: int, key: str) -> Path:
        return self.checkpoint_folder(shard_id) / f"slice-{slice_id:02d}-{key[:16]}.safetensors"

    def checkpoint_files(self, shard_id: int, keys: Sequence[str]) -> list[Path]:  # whether they are there or not
        return [self.checkpoint_file(shard_id, slice_id, key) for slice_id, key in enumerate(keys)]

    def export_file(self, shard_id: int) -> Path:
        return block_folder(self.exports_folder, block_of(shard_id, self.blocks)) / f"shard-{shard_id}.onnx"

    def export_record(self, shard_id: int) -> Path:
        return block_folder(self.exports_folder, block_of(shard_id, self.blocks)) / f"shard-{shard_id}.json"

    def loss_curve(self, shard_id: int) -> Path:
        return self.export_file(shard_id).with_suffix(".csv")

    # What is served; only ``publish`` writes it.

    @property
    def manifest_file(self) -> Path:
        return self.models_folder / "ensemble.json"

    @property
    def onnx_folder(self) -> Path:
        return self.models_folder / "onnx"

    def published_backbone(self, sha256: str) -> Path:
        return self.onnx_folder / f"backbone-{sha256[:16]}.onnx"

    def published_file(self, shard_id: int, sha256: str) -> Path:
        return self.onnx_folder / f"shard-{shard_id}-{sha256[:16]}.onnx"

    # The workspace's own memory, which neither git nor DVC carries along; that of the project in its experiments.

    @property
    def memory_folder(self) -> Path:
        return self.project_root / ".sisa"

    @property
    def secret_file(self) -> Path:
        return self.memory_folder / "secret"

    @property
    def suppressed_file(self) -> Path:
        return self.memory_folder / "suppressed.jsonl"

    @property
    def unfinished_run(self) -> Path:  # there while `sisa forget run` is at work, or after it was cut short
        return self.memory_folder / "run-unfinished"

    @property
    def members_folder(self) -> Path:
        return self.memory_folder / "members"

    def members_file(self, sha256: str) -> Path:  # what the published model of this digest was trained on
        return self.members_folder / f"{sha256}.npy"

    @property
    def ledger_file(self) -> Path:
        return self.memory_folder / "ledger.jsonl"

    @property
    def erasure(self) -> ErasureFiles:  # what is kept of a deletion
        return ErasureFiles(self.memory_folder, self.project_root / "models/keys")

    @property
    def ledger_export(self) -> Path:  # for git
        return self.project_root / "models/ledger.jsonl"

    # What is reported.

    @property
    def reports_folder(self) -> Path:
        return self.root / "reports"

    @property
    def training_reports(self) -> Path:
        return self.reports_folder / "training"

    def training_report(self, shard_id: int) -> Path:
        return self.training_reports / f"shard-{shard_id}.csv"

    @property
    def drill_reports(self) -> Path:
        return self.reports_folder / "drills"

    def report(self, name: str) -> Path:  # as ``metrics.json``
        return self.reports_folder / name

    @property
    def drills_folder(self) -> Path:
        return self.root / ".drills"

    @property
    def locks_folder(self) -> Path:
        return self.own_file("locks")

    # A killed ``dvc`` can leave its trainer or its partition running, which must not write what was asked before.

    def shard_lock(self, shard_id: int) -> AbstractContextManager[None]:  # a shard's checkpoints and export
        return hold(self.locks_folder, f"shard-{shard_id}", f"shard {shard_id}")

    def partition_lock(self) -> AbstractContextManager[None]:  # the shard files
        return hold(self.locks_folder, "partition", "partition")

    def run_lock(self) -> AbstractContextManager[None]:  # raises BusyError when there is another run or erasure
        return hold(self.locks_folder, "run", "`sisa forget run` or `sisa erase`", wait=False)

    def publish_lock(self) -> AbstractContextManager[None]:  # the ledger and all that is published
        return hold(self.locks_folder, "publish", "publishing")
