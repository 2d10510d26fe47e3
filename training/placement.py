"""Where a sample goes: its shard and slice, by a seeded hash of its own id.

SISA deals the training set into shards and slices (Bourtoule et al., "Machine Unlearning", IEEE
S&P 2021, section IV). A hash instead of a shuffled list is what makes forgetting local: a shuffle
depends on how many samples there are, so deleting one would move the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def assign_slots(sample_ids: Sequence[str], shards: int, slices: int, seed: int) -> list[tuple[int, int]]:
    """Place each sample in a (shard, slice), 0 <= shard < ``shards``, 0 <= slice < ``slices``.

    A slot depends on the sample's own id, the two counts and the seed alone: adding or forgetting
    a sample never moves another one.
    """
    return [_slot(sample_id, shards, slices, seed) for sample_id in sample_ids]


def _slot(sample_id: str, shards: int, slices: int, seed: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"{seed}\0{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % shards, int.from_bytes(digest[8:16]) % slices
