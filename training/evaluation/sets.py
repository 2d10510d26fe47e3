"""What models answer for the three sets that attacks are about: never trained on, trained on, on the forget lists."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest

import numpy as np

from serving.ensemble.loading import Ensemble
from training.data.deal import deal
from training.data.placement import assign_slots
from training.data.reading import last_reading, remembered
from training.data.requests import read_asked
from training.data.source import open_source
from training.data.store import load_checked, load_shard
from training.evaluation.candidate import answers, predict
from training.evaluation.membership import Answers
from training.params import Params
from training.publish.known import was_sample
from training.recipe.common.keyed_hash import keyed_hash
from training.workspace import Workspace

LARGEST_SET = 10_000  # retained samples that are attacked; more would add minutes, not certainty


def answers_for_test(workspace: Workspace, params: Params, ensemble: Ensemble) -> Answers:
    """For the test split. No shard holds it: a sample's own shard is the one that would, by hash of its id."""
    test, sisa = load_checked(workspace.test_file), params.sisa
    slots = assign_slots([f"test {name}" for name in test.ids], len(sisa.shards), sisa.slices, params.seed)
    return Answers(
        labels=test.labels,
        shards=np.array([shard_id for shard_id, _ in slots]),
        by_shard=answers(ensemble, test, range(len(test)), workspace.test_features_file),
        served=ensemble.manifest.shard_ids,
    )


def answers_for_retained(workspace: Workspace, params: Params, ensemble: Ensemble) -> Answers:
    """For what is trained on, or ``LARGEST_SET`` of it."""
    shards = {shard_id: load_shard(workspace.shard_file(shard_id)) for shard_id in params.sisa.shards}
    chosen = attacked({shard_id: shard.ids for shard_id, shard in shards.items()}, LARGEST_SET)
    return Answers(
        labels=np.concatenate([shards[shard_id].labels[rows] for shard_id, rows in chosen.items()]),
        shards=np.repeat(list(chosen), [len(rows) for rows in chosen.values()]),
        by_shard=np.concatenate(
            [
                answers(ensemble, shards[shard_id], rows, workspace.features_file(shard_id))
                for shard_id, rows in chosen.items()
            ],
            axis=1,
        ),
        served=ensemble.manifest.shard_ids,
    )


def attacked(ids: dict[int, list[str]], limit: int) -> dict[int, list[int]]:
    """By shard the rows, rising, of at most ``limit`` samples in all, those of lowest hash; no shard without a row."""
    every = [(shard_id, row) for shard_id, names in ids.items() for row in range(len(names))]
    if len(every) > limit:
        every = nsmallest(limit, every, key=lambda place: keyed_hash(0, "attacked", ids[place[0]][place[1]]))
    chosen: dict[int, list[int]] = {}
    for shard_id, row in sorted(every):
        chosen.setdefault(shard_id, []).append(row)
    return chosen


def answers_for_listed(workspace: Workspace, params: Params, ensemble: Ensemble) -> Answers | None:
    """For what the forget lists name, as it is or was trained on; None when nothing of it is in the source.

    From the source: nothing is kept in ``data/shards`` of what is forgotten.
    """
    lists = read_asked(workspace)
    if not lists:
        return None
    digests = remembered(workspace, params, last_reading(workspace))
    source = open_source(params.data, workspace.source_folder(params), workspace.subjects_file(params), digests)
    dealt = deal(params, lists, source, was_sample(workspace, lists))
    chosen = sorted(dealt.listed)
    if not chosen:
        return None

    def decode(indices: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.stack([dealt.samples.decode(index).image for index in indices])

    return Answers(
        labels=dealt.samples.labels[chosen],
        shards=np.array([dealt.slots[index][0] for index in chosen]),
        by_shard=predict(ensemble, chosen, decode),
        served=ensemble.manifest.shard_ids,
    )
