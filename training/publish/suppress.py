"""What is asked to be forgotten enters the suppression memory and the ledger: from then on it never comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

from training.data.deal import Partition
from training.data.forget_list import Entry
from training.data.placement import subject_of
from training.data.prints import Prints
from training.data.requests import Request, readable_requests
from training.data.shard_files import held_prints
from training.data.source import Samples
from training.data.subject_samples import grouped, with_samples
from training.errors import ForgetListError, SourceError
from training.memory.secret import Secret
from training.memory.suppressed import Batch, Memory, Suppressed, append_batch
from training.publish.events import Reinstated, Requested
from training.publish.history import remembered_batches
from training.publish.ledger import Ledger, actor
from training.publish.memory import open_memory
from training.publish.opening import open_ledger
from training.workspace import Workspace

FIRST_TO_SEE = (
    "{}: this is an experiment, and what it asks for has not been withdrawn from what is served; run `dvc repro` in "
    "the project first, then the experiment"
)


def suppress(workspace: Workspace, asked: Sequence[Entry], dealt: Partition) -> Memory:
    """Remember for ever what is asked for, also what no published model saw: it is never to come back.

    ``asked``: the entries that ``dealt`` was dealt by. A picture whose prints are not known yet is opened for them. In
    an experiment nothing is remembered, so one that is the first to see a request is refused with ForgetListError.
    """
    with nullcontext() if workspace.is_experiment else workspace.publish_lock():
        ledger = open_ledger(workspace)
        memory = open_memory(workspace, ledger.read())
        of_subject = grouped(dict(zip(dealt.samples.ids, dealt.samples.subjects, strict=True)))
        listed = {dealt.source.train.ids[index]: index for index in dealt.listed}
        groups: dict[str, dict[str, None]] = {}
        for entry in asked:
            request = entry.request
            for name in with_samples(entry.sample_id, of_subject):
                key = memory.secret.of_id(name)
                known = memory.samples.get(key)
                if known is None and workspace.is_experiment:
                    raise ForgetListError(FIRST_TO_SEE.format(request))
                without_prints = known is not None and known.content is None and name in listed
                if request not in memory.asked.get(key, ()) or without_prints:
                    groups.setdefault(request, {})[name] = None
        if not groups or workspace.is_experiment:
            return memory
        held = held_prints(workspace)  # of pictures that are gone from the source, or have another name by now
        batches = [
            batch(memory, request, [describe(memory.secret, dealt.source.train, name, listed, held) for name in names])
            for request, names in groups.items()
        ]
        return remember(workspace, ledger, memory, batches)


def suppress_copies(workspace: Workspace, copies: Mapping[str, Sequence[Suppressed]]) -> None:
    """Remember copies of what is forgotten, by the request that asked for it; not in an experiment."""
    if copies and not workspace.is_experiment:
        with workspace.publish_lock():
            ledger = open_ledger(workspace)
            memory = open_memory(workspace, ledger.read())
            remember(workspace, ledger, memory, [batch(memory, name, each) for name, each in copies.items()])


def recall(workspace: Workspace) -> Memory:
    """What is remembered, as it is now. Raises as ``open_memory`` does."""
    with nullcontext() if workspace.is_experiment else workspace.publish_lock():
        return open_memory(workspace, open_ledger(workspace).read())


def describe(
    secret: Secret, samples: Samples, sample_id: str, positions: Mapping[str, int], held: Mapping[str, Prints]
) -> Suppressed:
    """A sample as the memory takes it; ``positions``: by id where it is. ``held``: what the last shard files had of it.

    Of a picture that cannot be decoded only the file is known.
    """
    name, index = secret.of_id(sample_id).hex(), positions.get(sample_id)
    if subject_of(sample_id) is not None:
        return Suppressed(id=name, subject=True)
    if index is None:
        prints = held.get(sample_id)
        if prints is None or not any(prints.content):  # a file of an earlier version has none
            return Suppressed(id=name)
    else:
        try:
            prints = samples.decode(index).prints
        except SourceError:
            return Suppressed(id=name, content=secret.of_print("content", samples.contents[index]).hex())
    content = secret.of_print("content", prints.content).hex()
    return Suppressed(
        id=name,
        content=content,
        upright=secret.of_print("upright", prints.upright).hex(),
        look=prints.look.hex() if any(prints.look) else None,
    )


def batch(memory: Memory, request: str, samples: Sequence[Suppressed], by: str | None = None) -> Batch:
    """A line of the suppression memory, of now; ``by``: who asked, by default the system's user."""
    return Batch(
        event="forget",
        request=request,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        actor=by or actor(),
        secret=memory.secret.name,
        samples=tuple(samples),
    )


def remember(workspace: Workspace, ledger: Ledger, memory: Memory, batches: Sequence[Batch]) -> Memory:
    """Suppress for ever, and enter it into the ledger; also what a killed command had only written down.

    Call it under ``Workspace.publish_lock``.
    """
    requests = {request.name: request for request in readable_requests(workspace)}
    for each in batches:
        append_batch(workspace.suppressed_file, each)
    every = (*memory.batches, *batches)
    entered = set(remembered_batches(ledger.read()))
    for each in every:
        if each.digest not in entered:
            ledger.append(entry_of(ledger, each, requests.get(each.request)))
    return Memory(memory.secret, every)


def entry_of(ledger: Ledger, each: Batch, request: Request | None) -> Requested | Reinstated:
    """The ledger's entry of a line of the suppression memory."""
    said = {**ledger.stamp(), "actor": each.actor, "samples": each.count, "batch": each.digest}
    if each.event == "reinstate":
        return Reinstated.model_validate({**said, "reason": each.reason})
    known = {} if request is None else {"reference": request.reference, "approver": request.approver}
    return Requested.model_validate({**said, **known, "request": each.request})
