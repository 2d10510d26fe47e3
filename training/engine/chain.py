"""What is on the disk of a shard's key chain, and what of it is missing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from training.chain.checkpoints import Checkpoint, CheckpointError, Record, load_checkpoint
from training.chain.plan import ShardPlan
from training.files import remove

logger = logging.getLogger(__name__)


@dataclass
class Chain:
    """What exists of a shard's key chain.

    ``paths[r]``: the checkpoint of slice r, whether it is there or not. ``records[r]``: what it says,
    where it is sound. ``stale``: the other slices. ``needed``: checkpoints that training builds upon or
    that is exported, each read once.
    """

    paths: list[Path]
    records: dict[int, Record] = field(default_factory=dict)
    stale: list[int] = field(default_factory=list)
    needed: dict[int, Checkpoint] = field(default_factory=dict)


def prune(folder: Path, keep: set[Path]) -> None:
    """Delete every file in the shard's folder that is not on its key chain."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path not in keep:
            remove(path)


def read_chain(plan: ShardPlan, chain: Chain) -> None:
    """Read every checkpoint once; a damaged one is deleted, which is logged, and its slice is stale."""
    before = None
    for slice_id, (path, key) in enumerate(zip(chain.paths, plan.keys, strict=True)):
        checkpoint = None
        if path.is_file():
            try:
                checkpoint = load_checkpoint(path, key)
            except CheckpointError as error:
                logger.warning("%s; the slice is trained again", error)
                path.unlink()
        if checkpoint is None:
            chain.stale.append(slice_id)
            if before is not None:
                chain.needed[slice_id - 1] = before
        else:
            chain.records[slice_id] = checkpoint.record
        before = checkpoint
    if before is not None:
        chain.needed[len(chain.paths) - 1] = before
