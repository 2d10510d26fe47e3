"""Blocks of shards: what one stage of DVC trains.

DVC starts a process for each stage and rewrites dvc.lock after it, .6 s at 200 stages. So there are never more stages
than blocks, however many shards there are; with ten shards or fewer a block is a shard. Which block a shard is in
depends on its number alone: other numbers of shards move no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BLOCKS = 10  # dvc.yaml writes them out


def block_of(shard_id: int) -> int:
    return shard_id % BLOCKS


def shards_of(block: int, shards: Iterable[int]) -> list[int]:
    """Those of ``shards`` that are in a block."""
    return [shard_id for shard_id in shards if block_of(shard_id) == block]


def block_folder(folder: Path, block: int) -> Path:
    return folder / f"block-{block}"
