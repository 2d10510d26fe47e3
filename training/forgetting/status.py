"""`sisa status`: what is served, what is asked for and not done, and whether the one reflects the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.ensemble.aggregation import Aggregation
from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import Turnout, shards_needed, turnout
from training.chain.plan import load_plan
from training.data.reading import compare
from training.errors import DamagedError
from training.forgetting.reflects import Unseen, differences, unseen
from training.params import Params
from training.publish.events import Entry
from training.publish.history import read_history, unconfirmed, withdrawn_models
from training.publish.opening import answering_now
from training.publish.progress import Progress, Standing, follow, since
from training.publish.record import load_record
from training.workspace import Workspace


class Part(BaseModel):
    """What is told, in JSON as in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Away(Part):
    """A shard that does not answer with all its slices."""

    shard: int
    since: datetime | None = Field(description="when it was withdrawn; null when the ledger does not say")
    earlier_slice: int | None = Field(description="the slice from which it answers meanwhile; null: it is pending")


class Served(Part):
    """What is published."""

    generation: int
    aggregation: Aggregation
    turnout: Turnout
    needed: int = Field(description="shards that must answer (serve.quorum)")
    quorum: bool = Field(description="whether as many answer as must")
    away: tuple[Away, ...] = Field(description="the shards that do not answer with all their slices")


class OpenRequest(Part):
    """What was asked for and is not done."""

    request: str = Field(description="the list, or the name of the request")
    samples: int
    actor: str = Field(description="who entered it")
    approver: str | None
    reference: str | None = Field(description="the asker's own")
    since: datetime
    age_seconds: float = Field(ge=0)
    overdue: bool = Field(description="older than requests.deadline_days")
    step: Literal["requested", "withdrawn", "retrained"] = Field(description="how far it has come")
    shards: tuple[int, ...] = Field(description="shards that it waits for")


class NotEntered(Part):
    """Samples that are asked for and that no run has seen yet."""

    request: str
    samples: int
    since: datetime = Field(description="when the request was made, or the list was last written")


class Status(Part):
    """``sisa status --json``."""

    as_asked: bool = Field(description="whether everything is served as it is asked for")
    served: Served | None = Field(description="null when nothing is published")
    open: tuple[OpenRequest, ...] = Field(description="requests that are not done, the oldest first")
    overdue: int = Field(description="how many of them are older than the deadline")
    deadline_days: float = Field(description="requests.deadline_days")
    not_entered: tuple[NotEntered, ...]
    unconfirmed: tuple[str, ...] = Field(description="services that have not confirmed everything that was withdrawn")
    differs: tuple[str, ...] = Field(description="where lists, source or what is published are not as of the last run")
    compared: str = Field(description="with what lists and source were compared")


def read_status(workspace: Workspace, now: datetime, *, full: bool = False) -> Status:
    """Nothing is written. ``now``: the time to which ages are counted. ``full``: everything is read.

    Raises ParamsError, LedgerError or MemoryLostError when parameters, ledger or suppression memory cannot be used.
    """
    params, entries, manifest = workspace.read_params(), read_history(workspace), answering_now(workspace)
    standing = follow(entries)
    requests = [described(workspace, params, entries, each, now) for each in standing.open]
    missing = unseen(workspace, params, entries)
    served = None if manifest is None else describe(params, manifest, standing)
    read = compare(workspace, full=full)
    differs = (*read.changed, *differences(workspace, entries, manifest, full=full))
    unsure = tuple(unconfirmed(entries, params.publish.services))
    is_whole = served is not None and served.quorum and not served.away
    return Status(
        as_asked=is_whole and not (requests or missing or unsure or differs),
        served=served,
        open=tuple(sorted(requests, key=lambda each: each.since)),
        overdue=sum(each.overdue for each in requests),
        deadline_days=params.requests.deadline_days,
        not_entered=tuple(not_entered(each) for each in missing),
        unconfirmed=unsure,
        differs=differs,
        compared=read.compared,
    )


def describe(params: Params, manifest: Manifest, standing: Standing) -> Served:
    """What is published, and who of it answers."""
    present = turnout(manifest)
    needed = shards_needed(present.of, params.serve.quorum)
    away = (shard for shard in manifest.shards if shard.pending or shard.earlier_slice is not None)
    return Served(
        generation=manifest.generation,
        aggregation=manifest.aggregation,
        turnout=present,
        needed=needed,
        quorum=present.answered >= needed,
        away=tuple(
            Away(
                shard=shard.shard,
                since=datetime.fromisoformat(standing.away[shard.shard]) if shard.shard in standing.away else None,
                earlier_slice=shard.earlier_slice,
            )
            for shard in away
        ),
    )


def described(
    workspace: Workspace, params: Params, entries: Sequence[Entry], request: Progress, now: datetime
) -> OpenRequest:
    age, gone = max(now - since(request), timedelta(0)), withdrawn_models(entries)
    step: Literal["requested", "withdrawn", "retrained"] = "requested" if request.step == "requested" else "withdrawn"
    if request.waiting and all(is_retrained(workspace, shard_id, gone) for shard_id in request.waiting):
        step = "retrained"
    return OpenRequest(
        request=request.asked.request,
        samples=request.asked.samples,
        actor=request.asked.actor,
        approver=request.asked.approver,
        reference=request.asked.reference,
        since=since(request),
        age_seconds=age.total_seconds(),
        overdue=age > timedelta(days=params.requests.deadline_days),
        step=step,
        shards=tuple(sorted(request.waiting)),
    )


def is_retrained(workspace: Workspace, shard_id: int, gone: frozenset[str]) -> bool:
    """Whether a model that may answer was exported for the shard's plan."""
    try:
        plan, record = load_plan(workspace.plan_file(shard_id)), load_record(workspace.export_record(shard_id))
    except DamagedError:
        return False
    has_model = record.sha256 is None or (record.sha256 not in gone and workspace.export_file(shard_id).is_file())
    return has_model and record.keys == plan.keys


def not_entered(missing: Unseen) -> NotEntered:
    return NotEntered(request=missing.request, samples=missing.samples, since=missing.since.astimezone(UTC))


def in_words(age: timedelta) -> str:
    """The two largest units of an age: ``3 d 4 h``, ``12 min``."""
    minutes = int(age.total_seconds() // 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"
