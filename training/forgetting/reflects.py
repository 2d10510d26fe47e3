"""Whether what is served is what the last partition calls for, and what is asked for that no run has seen.

Whether lists and source are still what that partition read is ``training/data/reading.py``'s.

Each function answers in sentences, one for everything that differs. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.ensemble.manifest import Manifest
from training.chain.keys import sample_digests
from training.chain.merkle import merkle_root
from training.chain.plan import load_plan
from training.data.forget_list import readable_entries
from training.data.requests import readable_requests
from training.data.store import load_shard
from training.data.summary import read_summary
from training.errors import DamagedError
from training.files import sha256_file
from training.params import Params
from training.publish.events import Entry
from training.publish.history import remembered_batches, withdrawn_models
from training.publish.memory import open_memory
from training.workspace import Workspace


@dataclass(frozen=True)
class Unseen:
    """Samples that a list or request asks for and that no run has entered: nobody has carried that out.

    ``since``: when the request was made, or the list was last written.
    """

    request: str
    samples: int
    since: datetime


def unseen(workspace: Workspace, params: Params, entries: Sequence[Entry]) -> list[Unseen]:
    """What is asked for and not in the suppression memory. Raises MemoryLostError when that is lost or damaged."""
    asked: dict[str, tuple[datetime, list[str]]] = {}
    if params.forget.apply:
        for entry in readable_entries(workspace.forget_folder):
            written = datetime.fromtimestamp(entry.file.stat().st_mtime, UTC)
            asked.setdefault(entry.request, (written, []))[1].append(entry.sample_id)
    for request in readable_requests(workspace):
        asked[request.name] = datetime.fromisoformat(request.time), list(request.samples)
    # Opening a memory where nothing was ever forgotten would make one.
    exists = workspace.secret_file.is_file() or bool(remembered_batches(entries))
    memory = open_memory(workspace, entries) if exists else None
    found = []
    for name, (since, sample_ids) in asked.items():
        missing = {sample_id for sample_id in sample_ids if memory is None or not memory.suppresses(sample_id)}
        if missing:
            found.append(Unseen(name, len(missing), since))
    return found


def differences(
    workspace: Workspace, entries: Sequence[Entry], manifest: Manifest | None, *, full: bool = False
) -> Iterator[str]:
    """In what the published models are not those of the last partition. ``full``: shard files are read, too."""
    if manifest is None:
        yield "nothing is published"
        return
    if manifest.without(withdrawn_models(entries)) is not manifest:
        yield (
            "a model that was withdrawn is published: a command was stopped, or an old manifest came back; run "
            "`sisa publish`"
        )
    for shard in manifest.voters:
        path = workspace.models_folder / str(shard.file)
        if not path.is_file() or (full and sha256_file(path) != shard.sha256):
            yield f"{path} is missing or damaged; run `sisa publish`"
    yield from models_differ(workspace, manifest, full=full)


def models_differ(workspace: Workspace, manifest: Manifest, *, full: bool) -> Iterator[str]:
    """What the last partition wrote, what was planned of it, and what of that is published."""
    try:
        summary = read_summary(workspace.partition_file)
    except DamagedError:
        return  # said where lists and source are compared
    if manifest.forgotten.model_dump() != summary.forgotten.model_dump():
        yield "what is published was made for other forget lists than the last partition's"
    if len(manifest.shards) != len(summary.retained):
        yield f"{len(manifest.shards)} shards are published, the last partition has {len(summary.retained)}"
        return
    for shard, retained in zip(manifest.shards, summary.retained, strict=True):
        if shard.pending or shard.earlier_slice is not None:
            continue  # told apart from these
        try:
            plan = load_plan(workspace.plan_file(shard.shard))
            if plan.retained != retained or (full and plan.merkle_root != root_of(workspace, shard.shard)):
                yield f"shard {shard.shard}: its samples have changed since training was planned"
            elif plan.keys[-1] != shard.key:
                yield f"shard {shard.shard}: what is published is not what was planned last"
        except DamagedError as error:
            yield str(error)


def root_of(workspace: Workspace, shard_id: int) -> str:
    return merkle_root(sample_digests(load_shard(workspace.shard_file(shard_id))))
