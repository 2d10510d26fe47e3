"""Blocks of shards: what one stage of DVC trains.

DVC starts a process for each stage and rewrites dvc.lock after it, .6 s at 200 stages. So there are never more stages
than blocks, however many shards there are. With ten blocks and ten shards or fewer a block is a shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BLOCKS = 10  # at most; dvc.yaml writes them out


def block_of(shard_id: int, blocks: int) -> int:
    return shard_id % blocks


def shards_of(block: int, shards: Iterable[int], blocks: int) -> list[int]:
    """Those of ``shards`` that are in a block."""
    return [shard_id for shard_id in shards if block_of(shard_id, blocks) == block]


def block_folder(folder: Path, block: int) -> Path:
    return folder / f"block-{block}"


def block_list(folder: Path, block: int) -> Path:
    """The file in a block that says which shards are in it."""
    return block_folder(folder, block) / "shards.json"


def bring_home(folder: Path, home: Path) -> None:
    """Move what lies in the block of another number of blocks, or in none, as in earlier versions, to its place.

    ``home``: where a file or folder of this name belongs, in a block of ``folder``. What stands there already stays.
    """
    for path in (folder / home.name, *sorted(folder.glob(f"block-*/{home.name}"))):
        if path.exists() and not home.exists():
            home.parent.mkdir(parents=True, exist_ok=True)
            path.replace(home)
