"""Stage train@B: train the shards of a block, each from its first stale slice on, and export them.

It reads each shard's own file and plan and nothing of any other shard. A shard that was pending answers again as soon
as it is trained.
"""

from __future__ import annotations

from typing import Annotated

import typer

from training.blocks import BLOCKS, block_list, shards_of
from training.engine.serial import train_shard
from training.files import json_bytes, write_if_changed
from training.learning import Ridge
from training.publish.publish import offer
from training.stages.run import guard, here
from training.workspace import Workspace


def train_block(workspace: Workspace, block: int) -> None:
    """Raises what ``train_shard`` and ``offer`` raise; the shards before are then trained."""
    params = workspace.read_params()
    shards = shards_of(block, params.sisa.shards, params.sisa.blocks)
    for folder in (workspace.checkpoints_folder, workspace.exports_folder):
        # DVC wants both, and warns of one that is empty.
        write_if_changed(block_list(folder, block), json_bytes({"shards": shards}))
    for shard_id in shards:
        train_shard(workspace, shard_id)
        if not isinstance(params.training, Ridge):  # such heads are trained before one could be published
            offer(workspace, shard_id)


def train_and_offer(workspace: Workspace, shard: int, *, fresh: bool = False) -> None:
    """Raises what ``train_shard`` and ``offer`` raise."""
    train_shard(workspace, shard, fresh=fresh)
    offer(workspace, shard)


def main(
    block: Annotated[int | None, typer.Option(help="which block of shards to train", min=0, max=BLOCKS - 1)] = None,
    shard: Annotated[int | None, typer.Option(help="which shard to train, in place of a block")] = None,
    fresh: Annotated[bool, typer.Option(help="delete the shard's checkpoints first, even valid ones")] = False,
) -> None:
    if (block is None) == (shard is None) or (fresh and shard is None):
        raise typer.BadParameter("give either --block B, or --shard K with or without --fresh")
    if block is not None:
        train_block(here(), block)
    elif shard is not None:
        train_and_offer(here(), shard, fresh=fresh)


if __name__ == "__main__":
    guard(lambda: typer.run(main))
