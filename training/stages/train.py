"""Stage train@K: train one shard from its first stale slice on, export it, and let it answer if it was pending.

It reads the shard's own file and plan and nothing of any other shard.
"""

from __future__ import annotations

from typing import Annotated

import typer

from training.engine.serial import train_shard
from training.publish.publish import offer
from training.stages.run import guard, here
from training.workspace import Workspace


def train_and_offer(workspace: Workspace, shard: int, *, fresh: bool = False) -> None:
    """Raises what ``train_shard`` and ``offer`` raise."""
    train_shard(workspace, shard, fresh=fresh)
    offer(workspace, shard)


def main(
    shard: Annotated[int, typer.Option(help="which shard to train")],
    fresh: Annotated[bool, typer.Option(help="delete the shard's checkpoints first, even valid ones")] = False,
) -> None:
    train_and_offer(here(), shard, fresh=fresh)


if __name__ == "__main__":
    guard(lambda: typer.run(main))
