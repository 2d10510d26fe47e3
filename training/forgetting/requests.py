"""`sisa forget list`, `show` and `cancel`: what was asked, by whom, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from training.data.requests import Request, read_requests, request_file
from training.errors import RequestError
from training.forgetting.reinstate import lifted
from training.publish.events import Cancelled, Entry, Requested
from training.publish.history import read_history
from training.publish.ledger import actor
from training.publish.memory import open_memory
from training.publish.opening import open_ledger
from training.publish.progress import STEPS, Progress, Step, certified, follow
from training.publish.suppress import remember
from training.workspace import Workspace


class Item(BaseModel):
    """A list or request as the ledger tells it. ``since``: when it was first asked, UTC. ``samples``: so far.

    ``step``: how far all of its samples have come; after ``published``, ``verified``, ``purged``, and ``certified`` at
    the end, each standing for those before it that a person took. ``private``: asked by
    `sisa forget add`; else by a list that git has.
    """

    model_config = ConfigDict(frozen=True)

    request: str
    since: str
    samples: int
    step: str
    actor: str
    reference: str | None
    approver: str | None
    private: bool


def list_requests(workspace: Workspace) -> list[Item]:
    """In order of time; requests that no command has entered yet are among them. Raises as ``read_requests`` does."""
    requests = {request.name: request for request in read_requests(workspace)}
    entries = read_history(workspace)
    first: dict[str, Requested] = {}
    samples: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, Requested):
            first.setdefault(entry.request, entry)
            samples[entry.request] = samples.get(entry.request, 0) + entry.samples
    steps = steps_of(entries) | proven(entries)
    items = [
        Item(
            request=name,
            since=entry.time,
            samples=samples[name],
            step=steps[name],
            actor=entry.actor,
            reference=entry.reference,
            approver=entry.approver,
            private="/" not in name,
        )
        for name, entry in first.items()
    ]
    items += [waiting(request) for name, request in requests.items() if name not in first]
    return sorted(items, key=lambda item: item.since)


def waiting(request: Request) -> Item:
    """A request that is not in the ledger yet: no published model saw its samples, or a command was killed."""
    return Item(
        request=request.name,
        since=request.time,
        samples=len(request.samples),
        step="requested",
        actor=request.actor,
        reference=request.reference,
        approver=request.approver,
        private=True,
    )


def steps_of(entries: Sequence[Entry]) -> dict[str, Step]:
    """By request, how far all of it has come: of a list that grew, what has come least far."""
    steps: dict[str, Step] = {}
    for part in follow(entries).requests:
        name = part.asked.request
        steps[name] = min(part.step, steps.get(name, part.step), key=STEPS.index)
    return steps


def proven(entries: Sequence[Entry]) -> dict[str, str]:
    """Of requests that are done, the last of ``verified``, ``purged`` and ``certified`` that holds for all parts."""
    parts: dict[str, list[Progress]] = {}
    for part in follow(entries).requests:
        parts.setdefault(part.asked.request, []).append(part)
    signed, found = certified(entries), dict[str, str]()
    for name, every in parts.items():
        if any(part.step != "published" for part in every):
            continue
        if name in signed:
            found[name] = "certified"
        elif all(part.purged for part in every):
            found[name] = "purged"
        elif all(part.verified for part in every):
            found[name] = "verified"
    return found


def show_request(workspace: Workspace, name: str) -> Request:
    """A private request with its ids. Raises RequestError when there is none of this name."""
    for request in read_requests(workspace):
        if request.name == name:
            return request
    names = ", ".join(request.name for request in read_requests(workspace)) or "none"
    raise RequestError(f"there is no request {name!r} of `sisa forget add`; there are: {names}")


def cancel(workspace: Workspace, name: str, reason: str, by: str | None = None) -> None:
    """Take a request back; what no other list or request asks for is trained on again, once `dvc repro` has run.

    Its withdrawn models stay withdrawn: their shards are exported anew, from the checkpoints that are there. Killed
    before it ends, the request stands. Raises RequestError when there is no such request, or when models without its
    samples are published already.
    """
    if workspace.is_experiment:
        raise RequestError("this is an experiment, which cancels nothing; do it in the project")
    if not reason.strip():
        raise RequestError("a reason is missing: it goes into the ledger; give one with --reason")
    show_request(workspace, name)
    if steps_of(read_history(workspace)).get(name) == "published":
        raise RequestError(
            f"{name} is carried out: what is published never saw its samples. To train on them again on purpose, "
            "`sisa forget reinstate ID --reason …`"
        )
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        memory = open_memory(workspace, ledger.read())
        asked = [key for key, requests in memory.asked.items() if name in requests]
        back = lifted(memory, asked, reason, by or actor(), name)
        if back is not None:
            remember(workspace, ledger, memory, [back])
        said = {**ledger.stamp(), "actor": by or actor(), "request": name, "reason": reason}
        ledger.append(Cancelled.model_validate(said))
        request_file(workspace, name).unlink()
