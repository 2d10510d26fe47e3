"""Stage membership: whether the models' answers tell what they were trained on.

Two sets are attacked, each against the test set, which was never trained on: the samples that the
forget lists name (the attacks should recognise them before they are forgotten, and not afterwards) and the retained
ones (how much the models give away at all).
"""

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
from training.data.summary import read_summary
from training.evaluation.membership import Answers, attack, roc_curves
from training.evaluation.reports import Absent, ForgetLists, Membership
from training.files import csv_bytes, write_atomic
from training.params import Params
from training.publish.known import was_sample
from training.recipe.common.keyed_hash import keyed_hash
from training.stages.candidate import answers, open_candidate, predict
from training.stages.run import run
from training.workspace import Workspace

LARGEST_SET = 10_000  # retained samples that are attacked; more would add minutes, not certainty


def membership(workspace: Workspace) -> None:
    """Raises DamagedError when a shard file or the candidate is missing or damaged, and what ``deal`` raises."""
    params, ensemble = workspace.read_params(), open_candidate(workspace)
    partition = read_summary(workspace.partition_file)
    lists = (partition.forgotten if params.forget.apply else partition.monitored).model_dump()
    non_members = answers_for_test(workspace, params, ensemble)
    retained = answers_for_retained(workspace, params, ensemble)
    listed = answers_for_listed(workspace, params, ensemble)
    report = Membership(
        list=ForgetLists(applied=params.forget.apply, **lists, pictures=0 if listed is None else len(listed.labels)),
        non_members=len(non_members.labels),
        forget=Absent(absent="the forget lists name no sample whose picture is still in the source")
        if listed is None
        else attack(listed, non_members, params.seed),
        training=attack(retained, non_members, params.seed),
    )
    write_atomic(workspace.report("membership.json"), report.to_bytes())
    rows = [
        (f"{name}: {curve}", f"{fpr:.6f}", f"{tpr:.6f}")
        for name, members in (("forget", listed), ("training", retained))
        if members is not None
        for curve, fpr, tpr in roc_curves(members, non_members)
    ]
    write_atomic(workspace.report("roc.csv"), csv_bytes(("attack", "fpr", "tpr"), rows))
    for name, judged in (("forget", report.forget), ("training", report.training)):
        if not isinstance(judged, Absent) and not isinstance(judged.ensemble_loss.auc, Absent):
            print(f"{name} against non-members: AUC {judged.ensemble_loss.auc:.3f} by the ensemble's loss")


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


if __name__ == "__main__":
    run(membership)
