"""What the next run would do, before anything is touched.

The plans that `schedule` would make are made here of the shard files that the last partition wrote, without the
samples that are to be forgotten. Neither the source nor a picture is opened, and nothing is written. So what was
added to the source, changed in it or removed from it since the last partition is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.chain.initial_weights import initial_weights_digest
from training.chain.plan import ShardPlan, plan_samples, retrained
from training.data.features import index_features
from training.data.placement import assign_slots, placement_key, placement_names
from training.data.requests import read_asked
from training.data.store import Shard, load_shard
from training.data.subjects import read_subjects, subjects_of
from training.data.summary import Summary, read_summary
from training.errors import DamagedError, ForgetListError
from training.evaluation.reports import Absent, Report
from training.forgetting.speed import Speed, measured_speed, minutes_at
from training.learning import FrozenNetwork
from training.memory.suppressed import read_memory
from training.params import Params
from training.workspace import Workspace

Rows = NDArray[np.void]  # (N,) id, slice, label, digest


@dataclass(frozen=True)
class NextRun:
    """The plans of every shard, as the next run would make them.

    ``forgotten``: by shard, the samples that leave it. ``already_forgotten``: ids, or subjects, that were given and
    are not trained on any more. ``monitored``: ``forget.apply`` is false, so nothing is forgotten.
    """

    plans: tuple[ShardPlan, ...]
    forgotten: tuple[int, ...]
    already_forgotten: int
    monitored: bool


class ShardCost(Report):
    """What the next run would do to a shard."""

    shard: int = Field(description="the shard's number, from 0")
    forgotten: int = Field(description="samples that leave it", ge=0)
    retained: int = Field(description="samples that it is trained on afterwards", ge=0)
    slices: tuple[int, ...] = Field(description="the slices that are trained again, by number from 0")
    sample_epochs: int = Field(description="cost of that: samples, each counted as often as training sees it", ge=0)
    full_sample_epochs: int = Field(description="cost of training all of its slices, in sample-epochs", ge=0)


class RunCost(Report):
    """What the next run would do, in all and by shard."""

    forgotten: int = Field(description="samples that leave training", ge=0)
    already_forgotten: int = Field(description="ids given that are not trained on any more", ge=0)
    monitored: bool = Field(description="forget.apply is false: lists are only monitored and nothing is forgotten")
    sample_epochs: int = Field(description="cost of the run in sample-epochs", ge=0)
    full_sample_epochs: int = Field(description="cost of training everything, in sample-epochs", ge=0)
    share: float = Field(description="the one as a share of the other", ge=0, le=1)
    minutes: float | Absent = Field(description="of training at the measured speed, without export and evaluation")
    speed: Speed | Absent = Field(description="what training took where it was measured")
    shards: tuple[ShardCost, ...] = Field(description="every shard, also those that stay as they are")


def next_run(workspace: Workspace, sample_ids: Collection[str] = ()) -> NextRun:
    """What `dvc repro` would do by today's lists and parameters if ``sample_ids`` were listed as well.

    Raises ForgetListError when an id is unknown, a list cannot be read or nothing would be retained; DamagedError
    when files of the last partition are missing, damaged or of another source; MemoryLostError when the suppression
    memory is damaged; SourceError when the subjects' table, ParamsError when the placement key cannot be used;
    TrainingError when initial weights are missing.
    """
    params, summary = workspace.read_params(), read_summary(workspace.partition_file)
    if summary.source != params.data.source:
        raise DamagedError(
            f"the shard files hold samples of {summary.source}, data.source is {params.data.source}; run `dvc repro "
            "partition`, which trains nothing"
        )
    rows = read_rows(workspace, summary)
    ids, asked = ids_of(rows), set(sample_ids)
    names = placed_by(workspace, params, ids)
    here = {*ids, *names}
    wanted = asked | {entry.sample_id for entry in read_asked(workspace)}  # ids, or whole subjects
    refuse_unknown(workspace, asked - here, wanted - asked)
    key = placement_key(params.data.placement_key_digest)
    places = assign_slots(names, len(params.sisa.shards), params.sisa.slices, params.seed, key)
    forgets = params.forget.apply
    leaving = [forgets and not wanted.isdisjoint(each) for each in zip(ids, names, strict=True)]
    if all(leaving):
        raise ForgetListError("nothing would be retained: every sample that is trained on would be forgotten")
    losses = Counter(shard_id for (shard_id, _), leaves in zip(places, leaving, strict=True) if leaves)
    weights, classes = initial_weights_digest(workspace.root, params.network), len(summary.classes)
    retained = [index for index, leaves in enumerate(leaving) if not leaves]
    features = None
    if isinstance(params.network, FrozenNetwork):
        features = index_features(workspace.features_file(shard_id) for shard_id in range(len(summary.retained)))
    return NextRun(
        plans=tuple(
            plan_samples(
                params, shard_id, classes, weights, shard, features=None if features is None else features.of(shard)
            )
            for shard_id, shard in enumerate(
                placed(workspace, params, rows[retained], [places[index] for index in retained])
            )
        ),
        forgotten=tuple(losses[shard_id] for shard_id in params.sisa.shards),
        already_forgotten=len(asked - here),
        monitored=not forgets,
    )


def refuse_unknown(workspace: Workspace, sample_ids: Collection[str], listed: Collection[str]) -> None:
    """Raise ForgetListError naming, a line each, every id that is neither listed nor was forgotten earlier."""
    memory = read_memory(workspace.secret_file, workspace.suppressed_file)
    unknown = [
        sample_id
        for sample_id in sorted(sample_ids)
        if sample_id not in listed and (memory is None or not memory.suppresses(sample_id))
    ]
    if unknown:
        lines = [f"  {sample_id!r}" for sample_id in unknown]
        raise ForgetListError("\n".join(["neither trained on nor asked to be forgotten; misspelt?", *lines]))


def read_rows(workspace: Workspace, summary: Summary) -> Rows:
    """Id, label and digest of every sample that the last partition wrote, without the images.

    Raises DamagedError when a shard file is missing, damaged or not the one that the summary counts.
    """
    parts = []
    for shard_id, count in enumerate(summary.retained):
        shard = load_shard(workspace.shard_file(shard_id))
        if len(shard) != count:
            raise DamagedError(
                f"{shard.path} holds {len(shard)} samples, {workspace.partition_file} says {count}: partition was "
                "interrupted; run `dvc repro partition`, which trains nothing"
            )
        part = np.empty(count, [(name, shard.rows.dtype[name]) for name in ("id", "slice", "label", "digest")])
        for name in part.dtype.names or ():
            part[name] = shard.rows[name]
        parts.append(part)
    return np.concatenate(parts)


def placed(workspace: Workspace, params: Params, rows: Rows, places: Sequence[tuple[int, int]]) -> Iterator[Shard]:
    """The shards, without images, that partition would write of these rows; ``places``: shard and slice of each."""
    ids = ids_of(rows)
    members: list[list[int]] = [[] for _ in params.sisa.shards]
    for index in sorted(range(len(ids)), key=lambda index: (places[index][1], ids[index])):
        members[places[index][0]].append(index)
    for shard_id, indices in enumerate(members):
        part = rows[indices]
        part["slice"] = [places[index][1] for index in indices]
        yield Shard(workspace.shard_file(shard_id), part)


def placed_by(workspace: Workspace, params: Params, sample_ids: Sequence[str]) -> list[str]:
    """What decides each sample's slot: its subject, as ``subject:NAME``, or its own id."""
    file = workspace.subjects_file(params)
    table = None if file is None else read_subjects(file)
    return placement_names(sample_ids, subjects_of(sample_ids, params.data.subjects, table))


def ids_of(rows: Rows) -> list[str]:
    return [sample_id.decode(errors="replace") for sample_id in rows["id"].tolist()]


def run_cost(workspace: Workspace, run: NextRun) -> RunCost:
    """Raises LedgerError when the ledger, which knows what slices took, is damaged."""
    stale, speed = retrained(workspace, run.plans), measured_speed(workspace, run.plans)
    shards = tuple(
        ShardCost(
            shard=plan.shard,
            forgotten=run.forgotten[plan.shard],
            retained=plan.retained,
            slices=tuple(stale[plan.shard]),
            sample_epochs=plan.sample_epochs(stale[plan.shard]),
            full_sample_epochs=plan.full_sample_epochs,
        )
        for plan in run.plans
    )
    cost, full = sum(shard.sample_epochs for shard in shards), sum(shard.full_sample_epochs for shard in shards)
    return RunCost(
        forgotten=sum(run.forgotten),
        already_forgotten=run.already_forgotten,
        monitored=run.monitored,
        sample_epochs=cost,
        full_sample_epochs=full,
        share=cost / full,
        minutes=minutes_at(speed, cost),
        speed=speed,
        shards=shards,
    )
