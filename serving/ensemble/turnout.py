"""How many shards answer, how many should, and how many must."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

from pydantic import BaseModel, ConfigDict, Field

from serving.ensemble.manifest import Release


class Turnout(BaseModel):
    """Which shards' models take part in an answer. A shard without samples has nothing to say and does not count."""

    model_config = ConfigDict(frozen=True)

    answered: int = Field(description="shards whose models answer")
    of: int = Field(description="shards that have samples: those that answer and those that are pending")
    pending: tuple[int, ...] = Field(description="shards whose model was withdrawn and not yet replaced")
    earlier_slice: tuple[int, ...] = Field(description="shards that answer from an earlier slice than their last")


def turnout(release: Release) -> Turnout:
    pending = tuple(shard.shard for shard in release.shards if shard.pending)
    return Turnout(
        answered=len(release.voters),
        of=len(release.voters) + len(pending),
        pending=pending,
        earlier_slice=tuple(shard.shard for shard in release.voters if shard.earlier_slice is not None),
    )


@cache
def shards_needed(of: int, quorum: float) -> int:
    """How many of ``of`` shards must answer: the share ``quorum`` of them, rounded up, and at least one.

    ``quorum`` is taken as the decimal number that it is written as: .55 of 20 shards are 11, where
    floating point would make 12 of them.
    """
    return max(1, math.ceil(Fraction(repr(quorum)) * of))
