"""What lists and requests ask for that is not remembered yet, told without opening a picture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from training.data.forget_list import readable_entries
from training.data.placement import subject_of
from training.data.requests import readable_requests
from training.data.subject_samples import samples_by_subject, with_samples
from training.errors import ForgetListError, ParamsError
from training.memory.members import Members, read_all
from training.memory.suppressed import Batch, Memory, Suppressed
from training.params import Params
from training.publish.events import Entry
from training.publish.history import last_published
from training.publish.memory import open_memory
from training.publish.opening import open_ledger
from training.publish.suppress import FIRST_TO_SEE, batch
from training.workspace import Workspace


def refuse_unknown_requests(workspace: Workspace) -> None:
    """Raise ForgetListError when something is asked for that no run of the project has entered yet."""
    entries = open_ledger(workspace).read()
    memory, tables = open_memory(workspace, entries), read_all(workspace.members_folder)
    fresh = [batch.request for batch in newly_asked(workspace, entries, memory, tables)]
    if fresh:
        raise ForgetListError(FIRST_TO_SEE.format(", ".join(fresh)))


def newly_asked(
    workspace: Workspace, entries: Sequence[Entry], memory: Memory, tables: Mapping[str, Members]
) -> list[Batch]:
    """What is asked for and not remembered yet, a batch for each list or request.

    Only samples that a published model saw, those that are suppressed already, and those that a request says are gone:
    any other id may be a typo, or in the source alone, which partition finds out. ``subject:NAME`` asks for all
    samples of a subject, and for the name.
    """
    groups, requests, params = asked_for(workspace), readable_requests(workspace), valid_params(workspace)
    copies = params is not None and params.data.duplicates == "forget"
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
            samples += other_names(samples, tables, current, copies=copies)
            batches.append(batch(memory, name, samples, actors.get(name)))
    return batches


def other_names(
    samples: Sequence[Suppressed], tables: Mapping[str, Members], current: Collection[str | None], *, copies: bool
) -> list[Suppressed]:
    """The same pictures under names that they have no longer, and, where one is asked for by such a name, those of now.

    ``current``: the models of the last generation, whose names are those of now. Without this a picture that was
    renamed before it was asked for would come back under its old name, or be asked for by it in vain. A copy that
    stands beside it, under a name of now, is another sample, which is asked for only with ``copies``.
    """
    now = {key for sha256, table in tables.items() if sha256 in current for key in table.positions}
    wanted = {bytes.fromhex(sample.id) for sample in samples}
    found: dict[bytes, Suppressed] = {}
    for sample in samples:
        if sample.content is None or sample.subject:
            continue
        for table in tables.values():
            for key in table.of_content(sample.content):
                if key not in wanted and (copies or key not in now or bytes.fromhex(sample.id) not in now):
                    found[key] = sample.model_copy(update={"id": key.hex()})
    return list(found.values())


def asked_for(workspace: Workspace) -> dict[str, list[str]]:
    """By list or request all that it asks for, as far as lists and requests can be read."""
    groups: dict[str, list[str]] = {}
    params = valid_params(workspace)
    if params is not None and params.forget.apply:
        for entry in readable_entries(workspace.forget_folder):
            groups.setdefault(entry.request, []).append(entry.sample_id)
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


def valid_params(workspace: Workspace) -> Params | None:
    """The parameters, None where they cannot be used: a run stops for that anyway, a withdrawal does not."""
    try:
        return workspace.read_params()
    except ParamsError:
        return None
