"""A workspace: one folder with parameters, data, models and reports. It knows every path and every lock in it.

Nothing else in ``training/`` holds a path or reads the current directory: the stages and the command
make a Workspace of the folder they are started in and hand it on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from training.params import Params, load_params

logger = logging.getLogger(__name__)

EXPERIMENTS = (".dvc", "tmp", "exps")  # below it DVC keeps its temporary copies of a workspace


@dataclass(frozen=True)
class Workspace:
    """Paths are absolute, below ``root``; the names are those of dvc.yaml."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.resolve())

    def read_params(self) -> Params:
        """The parameters as they are now on the disk. Raises ParamsError naming every key that cannot be used."""
        return load_params(self.root / "params.yaml")

    @property
    def is_experiment(self) -> bool:
        """Whether ``dvc exp run`` is running here, or this is one of its copies (``--temp``, ``--queue``).

        An experiment computes, but publishes nothing: it is a trial, and its copy knows nothing of what was
        forgotten meanwhile.
        """
        parts = self.root.parts
        return "DVC_EXP_NAME" in os.environ or any(
            parts[start : start + 3] == EXPERIMENTS for start in range(len(parts))
        )

    def short(self, path: Path) -> str:
        """A path as a person in the workspace would type it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    # What is asked for.

    @property
    def forget_folder(self) -> Path:
        return self.root / "forget"

    def source_folder(self, params: Params) -> Path:
        """The folder that ``data.root`` names; an absolute one is taken as it is."""
        return self.root / params.data.root

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

    def shard_file(self, shard_id: int) -> Path:
        return self.shards_folder / f"shard-{shard_id}.npy"

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
    def graphs_folder(self) -> Path:
        """Networks as ONNX without weights: a cache that may be deleted."""
        return self.models_folder / "graphs"

    @property
    def exports_folder(self) -> Path:
        return self.models_folder / "exports"

    @property
    def release_file(self) -> Path:
        return self.models_folder / "release.json"

    def plan_file(self, shard_id: int) -> Path:
        return self.plan_folder / f"shard-{shard_id}.json"

    def checkpoint_folder(self, shard_id: int) -> Path:
        return self.checkpoints_folder / f"shard-{shard_id}"

    def checkpoint_file(self, shard_id: int, slice_id: int, key: str) -> Path:
        return self.checkpoint_folder(shard_id) / f"slice-{slice_id:02d}-{key[:16]}.safetensors"

    def checkpoint_files(self, shard_id: int, keys: Sequence[str]) -> list[Path]:
        """The checkpoint of every slice, whether it is there or not."""
        return [self.checkpoint_file(shard_id, slice_id, key) for slice_id, key in enumerate(keys)]

    def export_file(self, shard_id: int) -> Path:
        return self.exports_folder / f"shard-{shard_id}.onnx"

    def export_record(self, shard_id: int) -> Path:
        return self.exports_folder / f"shard-{shard_id}.json"

    # What is served; only ``publish`` writes it.

    @property
    def manifest_file(self) -> Path:
        return self.models_folder / "ensemble.json"

    @property
    def onnx_folder(self) -> Path:
        return self.models_folder / "onnx"

    def published_file(self, shard_id: int, sha256: str) -> Path:
        return self.onnx_folder / f"shard-{shard_id}-{sha256[:16]}.onnx"

    # The workspace's own memory, which neither git nor DVC carries along.

    @property
    def memory_folder(self) -> Path:
        return self.root / ".sisa"

    @property
    def ledger_file(self) -> Path:
        return self.memory_folder / "ledger.jsonl"

    @property
    def ledger_export(self) -> Path:
        """The ledger's copy for git."""
        return self.models_folder / "ledger.jsonl"

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

    def report(self, name: str) -> Path:
        """``reports/NAME``: one of the stages' own reports, as ``metrics.json``."""
        return self.reports_folder / name

    @property
    def drills_folder(self) -> Path:
        return self.root / ".drills"

    # Locks.

    @contextmanager
    def shard_lock(self, shard_id: int) -> Iterator[None]:
        """Hold a shard's checkpoints and export for this process; log for whom while another holds them.

        The kernel lets go when the holder dies, however it dies. A killed ``dvc`` can leave its trainer
        running: this is what keeps a second one away from its files.
        """
        with self._lock(f"shard-{shard_id}", f"shard {shard_id}"):
            yield

    @contextmanager
    def partition_lock(self) -> Iterator[None]:
        """Hold the shard files for this process: one that was left over must not write what was asked before."""
        with self._lock("partition", "partition"):
            yield

    @contextmanager
    def publish_lock(self) -> Iterator[None]:
        """Hold the ledger and all that is published for this process."""
        with self._lock("publish", "publishing"):
            yield

    @contextmanager
    def _lock(self, name: str, what: str) -> Iterator[None]:
        folder = self.memory_folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(folder / f"{name}.lock"), folder / f"{name}.holder"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = holder.read_text() if holder.is_file() else "another process"
            logger.warning("%s: waiting for process %s, which is working on it", what, who)
            lock.acquire()
        try:
            holder.write_text(str(os.getpid()))
            yield
        finally:
            lock.release()
