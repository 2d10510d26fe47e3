"""What became of the samples that the partition before this one trained on.

Its shard files are there until this one replaces them. One that is stopped leaves some of the old and some of the new,
so ``.sisa/begun.json`` says of which sources they may be; it is written before the first of them is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import TypeAdapter

from training.data.changes import Changes, Present, Trained, find_changes
from training.data.forget_list import Entry
from training.data.placement import SUBJECT
from training.data.reading import Reading, last_reading, remembered
from training.data.requests import read_asked
from training.data.source import Source, open_source
from training.data.store import readable_shards
from training.data.subjects import subjects_of
from training.data.summary import Summary, read_summary
from training.errors import DamagedError
from training.files import json_bytes, read_model, write_if_changed
from training.params import Params
from training.workspace import Workspace

SOURCES = TypeAdapter(dict[str, tuple[tuple[str, str], ...]])


def begin(workspace: Workspace, params: Params) -> None:
    """Call it before the first shard file is replaced."""
    keep_sources(workspace, (*sources_before(workspace, source_of(params)), source_of(params)))


def complete(workspace: Workspace, params: Params) -> None:
    """Call it when every shard file is of this partition."""
    keep_sources(workspace, (source_of(params),))


def keep_sources(workspace: Workspace, sources: Sequence[tuple[str, str]]) -> None:
    write_if_changed(workspace.own_file("begun.json"), json_bytes({"sources": list(dict.fromkeys(sources))}))


def sources_before(workspace: Workspace, now: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Those that shard files may be of, name and folder; as far as it is not known, the one of now."""
    try:
        return read_model(workspace.own_file("begun.json"), SOURCES)["sources"]
    except (DamagedError, KeyError):  # a clone, or partitioned by an earlier version
        last = last_summary(workspace)
        return ((now[0] if last is None else last.source, now[1]),)


def source_of(params: Params) -> tuple[str, str]:
    return params.data.source, params.data.root.as_posix()


def read_trained(workspace: Workspace, reading: Reading | None) -> Trained:
    """What the shard files hold, those that can be read."""
    labels: dict[str, int] = {}
    contents: dict[str, bytes] = {}
    for shard in readable_shards(workspace.shards_folder):
        ids, content = shard.ids, shard.prints["content"].tobytes()
        labels.update(zip(ids, shard.labels.tolist(), strict=True))
        digests = (content[32 * row : 32 * (row + 1)] for row in range(len(ids)))
        contents.update({name: digest for name, digest in zip(ids, digests, strict=True) if any(digest)})
        shard.release_pages()
    poisoned = workspace.poisoned_file.read_text().splitlines() if workspace.poisoned_file.is_file() else []
    return Trained(labels, contents, None if reading is None else reading.classes, frozenset(poisoned))


def changes_since(
    workspace: Workspace, params: Params, source: Source, reading: Reading | None, lists: Collection[Entry]
) -> Changes | None:
    """What became of what was trained on; None where this is another source, which replaces the one before.

    It is one where ``data.source`` is another, or where ``data.root`` is and no id is the same. ``reading``: the last.
    """
    trained, train, now = read_trained(workspace, reading), source.train, source_of(params)
    before = sources_before(workspace, now)
    moved = before != (now,) and trained.labels.keys().isdisjoint(train.ids)
    if moved or len(before) > 1 or before[0][0] != now[0]:
        return None
    labels = dict(zip(train.ids, train.labels.tolist(), strict=True))
    present = Present(labels, dict(zip(train.ids, train.contents, strict=True)), source.classes)
    subjects = subjects_of(trained.labels, params.data.subjects, source.table)
    asked = {entry.sample_id for entry in lists}
    asked |= {name for name, subject in zip(trained.labels, subjects, strict=True) if f"{SUBJECT}{subject}" in asked}
    return find_changes(trained, present, asked)


def vanished_ids(workspace: Workspace) -> tuple[str, ...]:
    """What was trained on, is on no list and is no longer in the source: what a request may ask for after the fact.

    Raises what ``open_source`` and ``read_asked`` raise.
    """
    params, reading = workspace.read_params(), last_reading(workspace)
    digests = remembered(workspace, params, reading)
    source = open_source(params.data, workspace.source_folder(params), workspace.subjects_file(params), digests)
    found = changes_since(workspace, params, source, reading, read_asked(workspace))
    return () if found is None else found.vanished


def last_summary(workspace: Workspace) -> Summary | None:
    try:
        return read_summary(workspace.partition_file)
    except DamagedError:
        return None
