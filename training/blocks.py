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


def places(folder: Path, name: str) -> list[Path]:
    """Where a shard's file or folder stands: in no block, as in earlier versions, or in a block of any number."""
    return [path for path in (folder / name, *sorted(folder.glob(f"block-*/{name}"))) if path.exists()]


def standing(folder: Path, home: Path) -> Path:
    """``home``, or where that stands until ``schedule`` brings it home: it may be needed before, by a withdrawal.

    ``home``: where a shard's file or folder belongs, in a block of ``folder``, whether it is there or not.
    """
    return home if home.exists() else next(iter(places(folder, "/".join(home.relative_to(folder).parts[1:]))), home)


def bring_home(folder: Path, home: Path) -> None:
    """Move what stands elsewhere to its place, in one step. What is there already stays."""
    found = standing(folder, home)
    if found != home:
        home.parent.mkdir(parents=True, exist_ok=True)
        found.replace(home)
