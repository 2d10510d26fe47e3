"""Withdrawal: what is asked to be forgotten stops answering before anything is trained, before a picture is opened.

By the digest of a model's file, and for ever: whatever saw a forgotten sample never answers again, whichever
generation lists it. Its shard abstains until it is trained again, which is exact, since the others never saw the
sample. What is carried out here is all that lists and requests ask for; a typo in one line keeps no other line from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

from serving.ensemble.manifest import Manifest
from training.blocks import places
from training.errors import DamagedError
from training.files import sha256_file
from training.memory.members import read_all
from training.memory.suppressed import Memory
from training.publish.asked import asks_for_the_unknown, newly_asked, refuse_unknown_requests, valid_params
from training.publish.bring_out import as_release, bring_out, digests
from training.publish.events import Entry, FellBack, Requested, Withdrawn
from training.publish.fallback import with_earlier_slices
from training.publish.history import last_published, withdrawn_models
from training.publish.ledger import Ledger
from training.publish.memory import ensure_members, open_memory, touched
from training.publish.opening import open_ledger, published_now, told_to_services
from training.publish.suppress import remember
from training.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Withdrawal:
    """``requests``: those entered now. ``models``: hex SHA-256 of what was withdrawn now. ``shards``: theirs."""

    requests: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    shards: tuple[int, ...] = ()
    manifest: Manifest | None = None


def withdraw(workspace: Workspace) -> Withdrawal:
    """Withdraw every published model that saw anything that lists and requests ask for, or that was ever forgotten.

    May be stopped at any point and called again. In an experiment nothing is withdrawn, so one that is the first to
    see a request is refused with ForgetListError. Raises MemoryLostError and LedgerError when those are damaged.
    """
    if workspace.is_experiment:
        refuse_unknown_requests(workspace)
        return Withdrawal()
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        return carry_out(workspace, ledger, open_memory(workspace, ledger.read()))


def carry_out(workspace: Workspace, ledger: Ledger, memory: Memory) -> Withdrawal:
    """``withdraw``, under the lock."""
    entries = ledger.read()
    know_published(workspace, entries, memory)
    tables = read_all(workspace.members_folder)
    fresh = newly_asked(workspace, entries, memory, tables)
    memory = remember(workspace, ledger, memory, fresh)
    entries = ledger.read()
    gone = withdrawn_models(entries)
    models = {sha256: touched(table, memory) for sha256, table in tables.items() if sha256 not in gone}
    models = {sha256: hit for sha256, hit in models.items() if hit}
    models |= {sha256: [] for sha256 in also_withdrawn(workspace, memory, gone, tables.keys(), asked=bool(fresh))}
    answered = {name for hit in models.values() for digest in hit for name in memory.asked[digest]}
    done = Withdrawal(
        requests=tuple(sorted(answered | unanswered(entries))),
        models=tuple(sorted(models)),
        shards=tuple(sorted({shard for shard, sha256 in shards_of(workspace, entries) if sha256 in models})),
    )
    manifest = take_out(workspace, ledger, gone | models.keys(), done)
    if manifest is not None:
        manifest = fall_back(workspace, ledger, memory, manifest)
    unlink_exports(workspace, gone | models.keys())
    unlink_published(workspace, gone | models.keys())
    return replace(done, requests=tuple(dict.fromkeys(each.request for each in fresh)), manifest=manifest)


def unanswered(entries: Iterable[Entry]) -> set[str]:
    """The lists and requests whose last entry no withdrawal has followed, which may be one of no model at all."""
    names: set[str] = set()
    for entry in entries:
        if isinstance(entry, Requested):
            names.add(entry.request)
        elif isinstance(entry, Withdrawn):
            names -= set(entry.requests)
    return names


def also_withdrawn(workspace: Workspace, memory: Memory, gone: Set[str], tables: Set[str], *, asked: bool) -> set[str]:
    """Published models that a service was told to withdraw, and those that may have seen what is asked for.

    The latter are those of which nobody knows any more what they were trained on. ``asked``: whether anything is
    asked for now.
    """
    manifest = published_now(workspace)
    listed = set() if manifest is None else {shard.sha256 for shard in manifest.voters if shard.sha256 is not None}
    told = told_to_services(workspace.models_folder / "withdrawn.json")
    unread = listed - tables
    if unread and not asked and not asks_for_the_unknown(workspace, memory):
        unread = set()
    return ((told & (listed | tables)) | unread) - gone


def take_out(workspace: Workspace, ledger: Ledger, gone: Set[str], done: Withdrawal) -> Manifest | None:
    """Publish what is published without the models that are gone; None where nothing is published.

    ``done``: what the ledger's entry says, if there is anything to say. A manifest that lists a withdrawn model though
    none is withdrawn now is that of a killed command, or an old one: it is put right all the same.
    """
    current = published_now(workspace)
    said = {"requests": done.requests, "models": done.models, "shards": done.shards}
    if current is not None and (left := current.without(gone)) is not current:
        return bring_out(
            workspace,
            ledger,
            as_release(left),
            lambda manifest, stamp: Withdrawn.model_validate({**stamp, **said, **digests(manifest)}),
        )
    if done.requests or done.models:
        ledger.append(Withdrawn.model_validate({**ledger.stamp(), **said}))
    return current


def fall_back(workspace: Workspace, ledger: Ledger, memory: Memory, manifest: Manifest) -> Manifest:
    """Let pending shards answer from an earlier slice, where too few others answer."""
    before = as_release(manifest)
    release = with_earlier_slices(workspace, ledger.read(), memory, before, quorum(workspace))
    if release == before:
        return manifest
    shards = {str(shard.shard): shard.earlier_slice for shard in release.shards if shard.earlier_slice is not None}
    return bring_out(
        workspace,
        ledger,
        release,
        lambda manifest, stamp: FellBack.model_validate({**stamp, **digests(manifest), "earlier_slice": shards}),
    )


def quorum(workspace: Workspace) -> float:
    params = valid_params(workspace)
    return 0.5 if params is None else params.serve.quorum


def know_published(workspace: Workspace, entries: Sequence[Entry], memory: Memory) -> None:
    """Write down what each published model was trained on, where an earlier version did not.

    Of one that was withdrawn nobody needs to know any more.
    """
    last, gone = last_published(entries), withdrawn_models(entries)
    for record in () if last is None else last.shards:
        if record.sha256 in gone:
            continue
        if record.sha256 is not None and not workspace.members_file(record.sha256).is_file():
            try:
                ensure_members(workspace, memory.secret, record.sha256, record)
            except DamagedError as error:
                logger.warning("%s; a request for a sample that no other model saw withdraws it", error)


def shards_of(workspace: Workspace, entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
    """Shard and digest of every model that the ledger has, and of those that answer from an earlier slice."""
    manifest = published_now(workspace)
    if manifest is not None:
        yield from ((shard.shard, str(shard.sha256)) for shard in manifest.voters)
    for entry in entries:
        for shard in getattr(entry, "shards", ()):
            if not isinstance(shard, int) and shard.sha256 is not None:
                yield shard.shard, shard.sha256


def unlink_published(workspace: Workspace, withdrawn: Set[str]) -> None:
    """Delete the files of withdrawn models, also where no manifest lists them, or none can be read."""
    for path in workspace.onnx_folder.glob("shard-*.onnx"):
        if any(path.stem.endswith(f"-{sha256[:16]}") for sha256 in withdrawn):
            path.unlink(missing_ok=True)


def unlink_exports(workspace: Workspace, withdrawn: frozenset[str]) -> None:
    """Delete what was exported of withdrawn models, so that DVC runs their trainers again, whatever else it finds."""
    from training.publish.record import load_record

    for path in sorted(workspace.exports_folder.rglob("shard-*.json")):
        try:
            record = load_record(path)
        except DamagedError:
            continue  # the trainer writes it anew
        if record.sha256 in withdrawn:
            # Its model may stand elsewhere than its record, where moving both to another block was cut short.
            for model in places(workspace.exports_folder, f"{path.stem}.onnx"):
                if model == path.with_suffix(".onnx") or sha256_file(model) == record.sha256:
                    model.unlink(missing_ok=True)
