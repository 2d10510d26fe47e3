"""What is asked to be forgotten enters the suppression memory and the ledger: from then on it never comes back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime

from training.data.deal import Partition
from training.data.forget_list import PRIVATE, Entry, readable_entries
from training.data.placement import subject_of
from training.data.prints import Prints
from training.data.requests import Request, readable_requests
from training.data.shard_files import held_prints
from training.data.source import Samples
from training.data.subject_samples import grouped, samples_by_subject, with_samples
from training.errors import ForgetListError, ParamsError, SourceError
from training.memory.members import Members, read_all
from training.memory.secret import Secret
from training.memory.suppressed import Batch, Memory, Suppressed, append_batch
from training.publish.events import Entry as LedgerEntry
from training.publish.events import Reinstated, Requested
from training.publish.history import last_published, remembered_batches
from training.publish.ledger import Ledger, actor
from training.publish.memory import open_memory
from training.publish.opening import open_ledger
from training.workspace import Workspace

FIRST_TO_SEE = (
    "{}: this is an experiment, and what it asks for has not been withdrawn from what is served; run `dvc repro` in "
    "the project first, then the experiment"
)


def refuse_unknown_requests(workspace: Workspace) -> None:
    """Raise ForgetListError when something is asked for that no run of the project has entered yet."""
    entries = open_ledger(workspace).read()
    memory, tables = open_memory(workspace, entries), read_all(workspace.members_folder)
    fresh = [batch.request for batch in newly_asked(workspace, entries, memory, tables)]
    if fresh:
        raise ForgetListError(FIRST_TO_SEE.format(", ".join(fresh)))


def newly_asked(
    workspace: Workspace, entries: Sequence[LedgerEntry], memory: Memory, tables: Mapping[str, Members]
) -> list[Batch]:
    """What is asked for and not remembered yet, a batch for each list or request.

    Only samples that a published model saw, those that are suppressed already, and those that a request says are gone:
    any other id may be a typo, or in the source alone, which partition finds out. ``subject:NAME`` asks for all
    samples of a subject, and for the name.
    """
    groups, requests = asked_for(workspace), readable_requests(workspace)
    gone = {sample_id for request in requests for sample_id in request.gone}
    actors = {request.name: request.actor for request in requests}
    subjects = any(subject_of(name) is not None for asked in groups.values() for name in asked)
    of_subject = samples_by_subject(workspace) if subjects else {}
    seen = set[bytes]().union(*(table.slices.keys() for table in tables.values()))
    seen |= memory.samples.keys()
    last = last_published(entries)
    current = {shard.sha256 for shard in last.shards} if last is not None else set()
    newest = [table for _, table in sorted(tables.items(), key=lambda each: each[0] not in current)]
    batches = []
    for name, asked in groups.items():
        new: dict[bytes, str] = {}
        for each in asked:
            keys = {memory.secret.of_id(sample_id): sample_id for sample_id in with_samples(each, of_subject)}
            if each in gone or not seen.isdisjoint(keys):
                new |= {key: named for key, named in keys.items() if name not in memory.asked.get(key, ())}
        if new:
            samples = [memory.samples.get(key) or as_seen(newest, key, named) for key, named in new.items()]
            samples += other_names(samples, tables, current)
            batches.append(batch(memory, name, samples, actors.get(name)))
    return batches


def other_names(
    samples: Sequence[Suppressed], tables: Mapping[str, Members], current: Collection[str | None]
) -> list[Suppressed]:
    """The same pictures under names that they have no longer, and, where one is asked for by such a name, those of now.

    ``current``: the models of the last generation, whose names are those of now. Without this a picture that was
    renamed before it was asked for would come back under its old name, or be asked for by it in vain. A copy that
    stands beside it, under a name of now, is another sample.
    """
    now = {key for sha256, table in tables.items() if sha256 in current for key in table.positions}
    wanted = {bytes.fromhex(sample.id) for sample in samples}
    found: dict[bytes, Suppressed] = {}
    for sample in samples:
        if sample.content is None or sample.subject:
            continue
        for table in tables.values():
            for key in table.of_content(sample.content):
                if key not in wanted and (key not in now or bytes.fromhex(sample.id) not in now):
                    found[key] = sample.model_copy(update={"id": key.hex()})
    return list(found.values())


def asked_for(workspace: Workspace) -> dict[str, list[str]]:
    """By list or request all that it asks for, as far as lists and requests can be read."""
    groups: dict[str, list[str]] = {}
    if lists_apply(workspace):
        for entry in readable_entries(workspace.forget_folder):
            groups.setdefault(request_of(entry), []).append(entry.sample_id)
    for request in readable_requests(workspace):
        groups.setdefault(request.name, []).extend(request.samples)
    return groups


def asks_for_the_unknown(workspace: Workspace, memory: Memory) -> bool:
    """Whether anything is asked for that is not suppressed: a typo, or what a model may have seen, nobody knows."""
    return any(not memory.suppresses(name) for asked in asked_for(workspace).values() for name in asked)


def as_seen(tables: Iterable[Members], digest: bytes, name: str) -> Suppressed:
    """All that is known of a sample or subject, from the first model that saw it; ``digest``: of its id, ``name``."""
    if subject_of(name) is not None:
        return Suppressed(id=digest.hex(), subject=True)
    seen = [table.suppressed(digest) for table in tables if digest in table.positions]
    return max(seen, key=lambda sample: sample.content is not None, default=Suppressed(id=digest.hex()))


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
            request = request_of(entry)
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


def request_of(entry: Entry) -> str:
    """The list, as ``forget/NAME.txt``, or the private request that an entry is of."""
    return entry.file.stem if entry.file.parent.name == PRIVATE else f"{entry.file.parent.name}/{entry.file.name}"


def lists_apply(workspace: Workspace) -> bool:
    """Whether lists are applied, not only monitored; where params.yaml cannot be read the run stops for that anyway."""
    try:
        return workspace.read_params().forget.apply
    except ParamsError:
        return False


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
