"""What the ledger says: which generation is the last, what was withdrawn, what a generation's training cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.publish.events import (
    Confirmed,
    Entry,
    FellBack,
    Generation,
    Imported,
    Published,
    Reinstated,
    Requested,
    Withdrawn,
)
from training.publish.ledger import Ledger
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


def read_history(workspace: Workspace) -> list[Entry]:
    """Every entry of the ledger; raises LedgerError when it is damaged."""
    return Ledger(workspace.ledger_file, workspace.ledger_export).read()


def last_generation(entries: Sequence[Entry]) -> Generation | None:
    """The entry that made the last generation."""
    for entry in reversed(entries):
        if isinstance(entry, Imported | Published | FellBack) or (
            isinstance(entry, Withdrawn) and entry.generation is not None
        ):
            return entry
    return None


def generation_of(entry: Generation | None) -> int:
    """Its number, from 1; 0 for none."""
    return 0 if entry is None or entry.generation is None else entry.generation


def withdrawn_models(entries: Sequence[Entry]) -> frozenset[str]:
    """Hex SHA-256 of every model that may never answer again."""
    return frozenset(model for entry in entries if isinstance(entry, Withdrawn) for model in entry.models)


def confirmed_models(entries: Sequence[Entry]) -> dict[str, int]:
    """By address, how many withdrawn models each service has confirmed."""
    return {entry.service: entry.models for entry in entries if isinstance(entry, Confirmed)}


def unconfirmed(entries: Sequence[Entry], services: Iterable[str]) -> list[str]:
    """The services that have not confirmed every model that was withdrawn so far: they may still answer with one."""
    withdrawn, confirmed = len(withdrawn_models(entries)), confirmed_models(entries)
    return [service for service in services if confirmed.get(service, 0) < withdrawn]


def published_models(entries: Sequence[Entry]) -> frozenset[tuple[int, str]]:
    """Shard and hex SHA-256 of every model that was the answer of its shard in some generation."""
    return frozenset(
        (shard.shard, shard.sha256)
        for entry in entries
        if isinstance(entry, Imported | Published)
        for shard in entry.shards
        if shard.sha256 is not None and not (isinstance(entry, Published) and shard.shard in absent(entry))
    )


def absent(entry: Published) -> set[int]:
    """The shards whose last model does not answer in this generation."""
    return {*entry.pending, *map(int, entry.earlier_slice)}


def remembered_batches(entries: Sequence[Entry]) -> list[str]:
    """The digest of every line that the suppression memory must have."""
    return [entry.batch for entry in entries if isinstance(entry, Requested | Reinstated)]


def last_published(entries: Sequence[Entry]) -> Published | None:
    """The last generation that was made by training, not by a withdrawal."""
    return next((entry for entry in reversed(entries) if isinstance(entry, Published)), None)


def cost(entries: Sequence[Entry]) -> Cost:
    """What the last trained generation cost: the slices whose key the one before did not have.

    The one before is the last of which no shard was pending: where shards come back one by one, the generations
    between are parts of this one. Raises ValueError when the ledger has no generation but an imported one.
    """
    trained = [entry for entry in entries if isinstance(entry, Published)]
    if not trained:
        raise ValueError("the ledger has no published generation")
    now = trained[-1]
    # Of an imported generation only the last keys are known, and those were made by an earlier version.
    before = next((entry.shards for entry in reversed(trained[:-1]) if not absent(entry)), ())
    known = {key for shard in before for key in shard.keys}
    everything = [(shard.shard, part) for shard in now.shards for part in shard.slices]
    fresh = [(shard_id, part) for shard_id, part in everything if part.key not in known]
    return Cost(
        shards=len({shard_id for shard_id, _ in fresh}),
        slices=len(fresh),
        sample_epochs=sum(part.sample_epochs for _, part in fresh),
        seconds=sum(part.seconds for _, part in fresh),
        full_shards=len(now.shards),
        full_slices=len(everything),
        full_sample_epochs=sum(part.sample_epochs for _, part in everything),
        full_seconds=sum(part.seconds for _, part in everything),
    )
