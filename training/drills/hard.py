"""Sets that are hard to forget: what the models have memorised, and what has near copies that stay.

Both are chosen once the models of "before" are there, and ranked, so that a larger number adds to a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from training.data.prints import near
from training.data.store import Shard, load_shard
from training.errors import DrillError
from training.evaluation.candidate import answers, open_candidate
from training.evaluation.roc import Floats
from training.recipe.common.keyed_hash import keyed_hash
from training.workspace import Workspace

Hard = Literal["memorised", "near-copies"]


def choose(workspace: Workspace, how: Hard, count: int) -> tuple[str, ...]:
    """``count`` ids of what ``workspace`` is trained on. Raises DrillError when there are not as many."""
    return CHOICES[how](workspace, count)


def most_memorised(workspace: Workspace, count: int) -> tuple[str, ...]:
    """Those that the model of their own shard knows best by comparison with the others, which never held them.

    The probability of a sample's class by its own shard, less the mean of the other shards': what Feldman and Zhang
    call its memorisation ("What Neural Networks Memorize and Why", NeurIPS 2020), with the shards as the models that
    were trained with and without it. Raises DrillError where a sample has no other shard to compare with.
    """
    ensemble = open_candidate(workspace)
    served = ensemble.manifest.shard_ids
    if len(served) < 2:
        raise DrillError("what is memorised shows by comparison with other shards, and there is only one")
    scores: dict[str, float] = {}
    for row, shard_id in enumerate(served):
        shard = load_shard(workspace.shard_file(shard_id))
        by_shard = answers(ensemble, shard, range(len(shard)), workspace.features_file(shard_id))
        right: Floats = by_shard[:, np.arange(len(shard)), shard.labels].astype(np.float64)
        memorised = right[row] - np.delete(right, row, axis=0).mean(axis=0)
        scores |= zip(shard.ids, memorised.tolist(), strict=True)
    if count >= len(scores):
        raise DrillError(f"--samples {count}: there are {len(scores)} to train on, and some must stay")
    return tuple(sorted(scores, key=lambda each: (-scores[each], each))[:count])


def with_near_copies(workspace: Workspace, count: int) -> tuple[str, ...]:
    """One sample of each pair that looks alike, so that the other one stays; drawn by the hash of its id.

    Raises DrillError when there are fewer, or pictures too small to be compared (docs/results/near_copies.md).
    """
    params = workspace.read_params()
    shards: list[Shard] = [load_shard(workspace.shard_file(shard_id)) for shard_id in params.sisa.shards]
    ids = [sample_id for shard in shards for sample_id in shard.ids]
    looks = np.concatenate([shard.prints["look"] for shard in shards])
    order = sorted(range(len(ids)), key=lambda index: keyed_hash(params.seed, "drill near copies", ids[index]))
    twins: dict[int, set[int]] = {}
    for one, other in near(looks, looks).tolist():
        if one != other:
            twins.setdefault(one, set()).add(other)
    chosen, stay = list[int](), set[int]()
    for index in order:
        if index in twins and index not in stay:
            chosen.append(index)
            stay |= twins[index]
    if count > len(chosen):
        small = "" if looks.any() else "; pictures with a side below 32 pixels are not compared"
        raise DrillError(f"--samples {count}: there are {len(chosen)} samples that have a near copy in training{small}")
    return tuple(ids[index] for index in chosen[:count])


CHOICES: Mapping[Hard, Callable[[Workspace, int], tuple[str, ...]]] = {
    "memorised": most_memorised,
    "near-copies": with_near_copies,
}
