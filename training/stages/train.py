"""Stage train@K: train one shard from its first stale slice on, and export it.

It reads the shard's own file and plan and nothing of any other shard.
"""

from __future__ import annotations

from typing import Annotated

import typer

from training.engine.serial import train_shard
from training.stages.run import guard, here


def main(
    shard: Annotated[int, typer.Option(help="which shard to train")],
    fresh: Annotated[bool, typer.Option(help="delete the shard's checkpoints first, even valid ones")] = False,
) -> None:
    train_shard(here(), shard, fresh=fresh)


if __name__ == "__main__":
    guard(lambda: typer.run(main))
