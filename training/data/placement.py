"""Where a sample goes: its shard and slice, by a seeded hash of its own id.

SISA partitions the training set into shards and slices (Bourtoule et al., "Machine Unlearning", IEEE
S&P 2021, section IV). A hash instead of a shuffled list is what makes forgetting local: a shuffle
depends on how many samples there are, so deleting one would move the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.recipe.common.keyed_hash import keyed_number


def assign_slots(sample_ids: Sequence[str], shards: int, slices: int, seed: int) -> list[tuple[int, int]]:
    """Place each sample in a (shard, slice), 0 <= shard < ``shards``, 0 <= slice < ``slices``.

    A slot depends on the sample's own id, the two counts and the seed alone: adding or forgetting
    a sample never moves another one.
    """
    return [
        (keyed_number(seed, "shard", sample_id, shards), keyed_number(seed, "slice", sample_id, slices))
        for sample_id in sample_ids
    ]
