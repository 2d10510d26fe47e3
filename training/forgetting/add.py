"""`sisa forget add`: a request is written down, and what saw its samples is withdrawn, before anything is trained."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from serving.ensemble.turnout import shards_needed, turnout
from training.data.placement import subject_of
from training.data.requests import Request, check_name, readable_requests, request_file, write_request
from training.data.suggestions import NearIds, plain, readings
from training.errors import RequestError
from training.forgetting.known import Known, look_up
from training.publish.events import Requested
from training.publish.history import read_history
from training.publish.ledger import actor
from training.publish.opening import answering_now
from training.publish.withdraw import quorum, withdraw
from training.workspace import Workspace


class Outlook(BaseModel):
    """What a request does to what is served, before it is made.

    ``shards``: those whose models saw a sample. ``answered``, ``of``: how many shards then answer, of those that have
    samples. ``needed``: the quorum. ``accuracy``: on the test set with so many shards, of the last report; None where
    that does not say.
    """

    model_config = ConfigDict(frozen=True)

    shards: tuple[int, ...]
    answered: int
    of: int
    needed: int
    accuracy: float | None

    @property
    def quorum_holds(self) -> bool:
        return self.answered >= self.needed


class Added(BaseModel):
    """``request``: its name; None where no id was a sample. ``samples``: the ids that it names.

    ``unknown``: ids that were never a sample here. ``near``: by unknown id which ones may have been meant, in words.
    ``pending``, ``earlier_slice``: the shards that abstain now, and those that answer from an earlier slice.
    """

    model_config = ConfigDict(frozen=True)

    request: str | None
    samples: tuple[str, ...]
    count: int = Field(description="samples that it names, those of a subject counted one by one")
    unknown: tuple[str, ...]
    near: dict[str, str]
    outlook: Outlook
    withdrawn: tuple[str, ...] = Field(description="hex SHA-256 of the models withdrawn now")
    generation: int | None
    pending: tuple[int, ...] = ()
    earlier_slice: tuple[int, ...] = ()


def add(
    workspace: Workspace,
    sample_ids: Sequence[str],
    *,
    name: str | None = None,
    by: str | None = None,
    reference: str | None = None,
    approver: str | None = None,
    gone: bool = False,
    known: Known | None = None,
) -> Added:
    """Write the request down and withdraw. Killed at any point, there is no request, or the next command finishes it.

    ``gone``: take ids that were never a sample here as they are; of pictures, say, that were removed before anybody
    listed them. Ids that are not known otherwise are left out and named. ``known``: what was just looked up, if it was.
    Raises RequestError when it cannot be made.
    """
    if workspace.is_experiment:
        raise RequestError("this is an experiment, which forgets nothing; add the request in the project")
    known = known or look_up(workspace)
    named = tuple(dict.fromkeys(sample_ids))
    unknown = tuple(sample_id for sample_id in named if not gone and not known.is_sample(sample_id))
    samples = tuple(sample_id for sample_id in named if sample_id not in unknown)
    samples = tuple(dict.fromkeys([*samples, *(name for each in samples for name in known.called_now(each))]))
    ids = NearIds(list(known.trained))
    near = {name: hint for name in unknown if (hint := ids.hint(name))}
    if gone:
        refuse_other_spellings(known, samples)
    outlook = look_ahead(known, samples)
    if not samples:
        return Added(
            request=None,
            samples=(),
            count=0,
            unknown=unknown,
            near=near,
            outlook=outlook,
            withdrawn=(),
            generation=None,
        )
    now = datetime.now(UTC)
    request = Request(
        name=name or f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        time=now.isoformat(timespec="seconds"),
        actor=by or actor(),
        reference=reference,
        approver=approver,
        samples=samples,
        gone=tuple(sample_id for sample_id in samples if not known.is_sample(sample_id)),
    )
    with workspace.publish_lock():
        refuse_taken_name(workspace, request.name)
        write_request(workspace, request)  # from here on it will be carried out
    done = withdraw(workspace)
    present = None if done.manifest is None else turnout(done.manifest)
    return Added(
        request=request.name,
        samples=samples,
        count=sum(len(known.of_subject.get(s, ())) if (s := subject_of(each)) is not None else 1 for each in samples),
        unknown=unknown,
        near=near,
        outlook=outlook,
        withdrawn=done.models,
        generation=None if done.manifest is None else done.manifest.generation,
        pending=() if present is None else present.pending,
        earlier_slice=() if present is None else present.earlier_slice,
    )


def refuse_other_spellings(known: Known, sample_ids: Sequence[str]) -> None:
    """Raise RequestError where an id that is to be gone is another spelling of one that is trained on."""
    spelt = {plain(sample_id): sample_id for sample_id in known.trained}
    wrong = [
        f"  {sample_id!r}: {spelt[plain(reading)]!r} is trained on"
        for sample_id in sample_ids
        if not known.is_sample(sample_id)
        for reading in readings(sample_id)
        if plain(reading) in spelt
    ]
    if wrong:
        lines = "\n".join(dict.fromkeys(wrong))
        raise RequestError(f"not gone, only spelt otherwise; nothing was asked for\n{lines}")


def refuse_taken_name(workspace: Workspace, name: str) -> None:
    """Raise RequestError when a request is called so, or cannot be."""
    check_name(name)
    taken = {request.name.casefold(): request.name for request in readable_requests(workspace)}
    taken |= {
        entry.request.casefold(): entry.request for entry in read_history(workspace) if isinstance(entry, Requested)
    }
    if name.casefold() in taken or request_file(workspace, name).exists():
        raise RequestError(f"there is or was a request {taken.get(name.casefold(), name)!r}; choose another name")


def look_ahead(known: Known, sample_ids: Sequence[str]) -> Outlook:
    """What forgetting these samples would do to what is served."""
    manifest = answering_now(known.workspace)
    share = quorum(known.workspace)
    if manifest is None:
        return Outlook(shards=(), answered=0, of=0, needed=0, accuracy=None)
    seen = {sha256 for sample_id in sample_ids for sha256 in known.models_that_saw(sample_id)}
    shards = tuple(shard.shard for shard in manifest.voters if shard.sha256 in seen)
    after = turnout(manifest.without(seen))
    return Outlook(
        shards=shards,
        answered=after.answered,
        of=after.of,
        needed=shards_needed(after.of, share),
        accuracy=accuracy_with(known.workspace, after.answered, manifest.aggregation),
    )


def accuracy_with(workspace: Workspace, shards: int, aggregation: str) -> float | None:
    """Accuracy on the test set with so many shards, by the last report; None where that does not say."""
    path = workspace.report("shard_count.csv")
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get("shards") == str(shards) and row.get(aggregation):
                return float(row[aggregation])
    return None
