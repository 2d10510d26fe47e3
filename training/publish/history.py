"""What the ledger says about a generation: which one it is, and what its training cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.publish.ledger import Imported, Ledger, Published
from training.workspace import Workspace


@dataclass(frozen=True)
class Cost:
    """What was trained for a generation, beside all there is of it; ``full``: every slice that it serves.

    ``shards``, ``slices``: numbers of them. ``seconds``: of training alone.
    """

    shards: int
    slices: int
    sample_epochs: int
    seconds: float
    full_shards: int
    full_slices: int
    full_sample_epochs: int
    full_seconds: float


def read_history(workspace: Workspace) -> list[Imported | Published]:
    """Every entry of the ledger; raises LedgerError when it is damaged."""
    return Ledger(workspace.ledger_file, workspace.ledger_export).read()


def cost(entries: Sequence[Imported | Published]) -> Cost:
    """What the last entry's generation cost: the slices whose key the one before did not have.

    Raises ValueError unless the last entry is a published generation.
    """
    if not entries or not isinstance(entries[-1], Published):
        raise ValueError("the ledger does not end in a published generation")
    now = entries[-1]
    # Of an imported generation only the last keys are known, and those were made by an earlier version.
    before = entries[-2].shards if len(entries) > 1 and isinstance(entries[-2], Published) else ()
    known = {key for shard in before for key in shard.keys}
    everything = [(shard.shard, part) for shard in now.shards for part in shard.slices]
    trained = [(shard_id, part) for shard_id, part in everything if part.key not in known]
    return Cost(
        shards=len({shard_id for shard_id, _ in trained}),
        slices=len(trained),
        sample_epochs=sum(part.sample_epochs for _, part in trained),
        seconds=sum(part.seconds for _, part in trained),
        full_shards=len(now.shards),
        full_slices=len(everything),
        full_sample_epochs=sum(part.sample_epochs for _, part in everything),
        full_seconds=sum(part.seconds for _, part in everything),
    )
