"""What open requests cost meanwhile: shards that do not answer, for how long, and the accuracy without them."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from pydantic import Field

from training.forgetting.add import accuracy_with
from training.forgetting.status import Part, Served, in_words
from training.workspace import Workspace


class Exposure(Part):
    """Accuracies are on the test set; where shards answer from an earlier slice theirs was never measured."""

    away_seconds: dict[int, float] = Field(description="by shard, how long it has not answered with all its slices")
    answered: int = Field(description="shards that answer, from whichever slice")
    of: int = Field(description="shards with samples")
    accuracy: float | None = Field(description="with so many shards, the mean over which ones; null when not known")
    undisturbed: float | None = Field(description="with all of them; null when not known")


def exposure(workspace: Workspace, served: Served, now: datetime) -> Exposure:
    """Accuracies are those that were last evaluated, by the published aggregation."""
    known = partial(accuracy_with, workspace, aggregation=served.aggregation)
    return Exposure(
        away_seconds={
            each.shard: max(0.0, (now - each.since).total_seconds()) for each in served.away if each.since is not None
        },
        answered=served.turnout.answered,
        of=served.turnout.of,
        accuracy=None if served.turnout.earlier_slice else known(served.turnout.answered),
        undisturbed=known(served.turnout.of),
    )


def exposure_in_words(found: Exposure) -> str:
    """One sentence."""
    if not found.away_seconds:
        return "exposure: every shard answers with all its slices"
    waits: dict[str, list[str]] = {}
    for shard, seconds in found.away_seconds.items():
        waits.setdefault(in_words(timedelta(seconds=seconds)), []).append(str(shard))
    away = "; ".join(f"shards {', '.join(shards)} for {age}" for age, shards in waits.items())
    text = f"exposure: withdrawn and not replaced: {away}; {found.answered} of {found.of} shards answer meanwhile"
    if found.accuracy is not None and found.undisturbed is not None:
        text += f", with an accuracy of {found.accuracy:.4f} ({found.undisturbed:.4f} with all of them)"
    return text
