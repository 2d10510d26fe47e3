"""What a partition read, and whether it is still what is there: what is asked must be what is read.

DVC hashes what a stage depends on after the stage has run: what was changed between its own look and DVC's would count
as seen for ever. So partition writes down what it read, in ``.sisa/reading.json``, and looks again at its end; and
assemble looks once more before anything is published, after every run of partition, for it depends on
``data/reading.json``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from training.data.forget_list import Entry, ids_digest
from training.data.listing import SPLITS, list_pictures, shown
from training.data.requests import read_asked
from training.data.subjects import read_subjects
from training.data.summary import read_summary
from training.errors import ChangedError, DamagedError, SisaError
from training.files import json_bytes, read_model, write_atomic
from training.memory.digests import FileDigests, Seen
from training.params import Params
from training.workspace import Workspace

logger = logging.getLogger(__name__)

NAMED = 10  # changes; more are counted
WHAT = "reading.json"  # what was read; when, and that alone, is said in data/

EVERYTHING = "lists and source are compared with what the last partition read"
LISTS_ALONE = (
    "the lists alone are compared, by content: what lies here was not partitioned in this folder, so nothing is known "
    "of the source's files"
)


@dataclass(frozen=True)
class Reading:
    """What one partition read. ``time``: UTC, ISO 8601, to the microsecond; it names the reading.

    ``params``: what partition reads of params.yaml, by dotted key. ``lists``: by the name of a list or request how
    many ids it names, and their digest. ``table``: digest of the table of subjects. ``classes``, and ``files``, those
    that samples come from, by their names below the source's folder.
    """

    time: str
    params: dict[str, Any]
    lists: dict[str, tuple[int, str]]
    table: str | None
    classes: tuple[str, ...]
    files: dict[str, Seen]


READING = TypeAdapter(Reading)


@dataclass(frozen=True)
class Comparison:
    """``changed``: a sentence for everything that is not what the last partition read. ``compared``: with what."""

    changed: tuple[str, ...]
    compared: str = EVERYTHING


def compare(workspace: Workspace, *, full: bool = False) -> Comparison:
    """Whether lists, parameters and source are what the last partition read.

    Lists by what they name. Pictures by the size and times of their files, content where those differ; ``full``: all
    by content, which alone finds an edit that left size and times as they were. Where the folder did not partition
    itself, as in a clone that only pulled, the lists alone are compared.
    """
    if not workspace.partition_file.is_file():
        missing = f"{workspace.partition_file} is missing: the last partition is not complete"
        return Comparison((missing, *unreadable_lists(workspace)))
    reading = own_reading(workspace)
    if reading is None:
        return Comparison(tuple(changed_lists_by_digest(workspace)), LISTS_ALONE)
    return Comparison(tuple(changes(workspace, reading, full=full)))


def refuse_changed(workspace: Workspace, found: Comparison) -> None:
    """Raise ChangedError where something changed; the next ``dvc repro`` then partitions again."""
    if found.changed:
        workspace.partition_file.unlink(missing_ok=True)
        more = [f"  … and {len(found.changed) - NAMED} more"] if len(found.changed) > NAMED else []
        lines = ["changed meanwhile, run it again:", *(f"  {sentence}" for sentence in found.changed[:NAMED]), *more]
        raise ChangedError("\n".join(lines))


def make_reading(
    workspace: Workspace,
    params: Params,
    lists: Iterable[Entry],
    *,
    table: Mapping[str, str] | None,
    classes: tuple[str, ...],
    files: dict[str, Seen],
) -> Reading:
    """What has just been read."""
    return Reading(
        time=datetime.now(UTC).isoformat(timespec="microseconds"),
        params=partition_params(params),
        lists=lists_digests(workspace, lists),
        table=table_digest(table),
        classes=classes,
        files=files,
    )


def keep_reading(workspace: Workspace, reading: Reading) -> None:
    """Write down a reading; ``data/reading.json``, which is an output of DVC, last."""
    write_atomic(workspace.own_file(WHAT), READING.dump_json(reading), mode=0o600)
    write_atomic(time_file(workspace), json_bytes({"time": reading.time}))


def time_file(workspace: Workspace) -> Path:
    """An output of DVC: when the partition that lies here was read, and nothing else."""
    return workspace.partition_file.with_name("reading.json")


def own_reading(workspace: Workspace) -> Reading | None:
    """The reading that ``data/reading.json`` names; None where this folder did not take it, or it cannot be read."""
    reading = last_reading(workspace)
    try:
        time = read_model(time_file(workspace), TypeAdapter(dict[str, str])).get("time")
    except DamagedError:
        return None
    return reading if reading is not None and reading.time == time else None


def last_reading(workspace: Workspace) -> Reading | None:
    """The last reading that was taken in this folder, whatever partition lies there now."""
    try:
        return READING.validate_json(workspace.own_file(WHAT).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        logger.warning(
            "%s is damaged and does not count; the next partition reads everything", workspace.own_file(WHAT)
        )
        return None


def remembered(workspace: Workspace, params: Params, reading: Reading | None) -> FileDigests:
    """The digests of the source's files, those that a reading knows."""
    return FileDigests(workspace.source_folder(params), None if reading is None else reading.files)


def changes(workspace: Workspace, reading: Reading, *, full: bool = False) -> list[str]:
    """What is no longer as ``reading`` saw it, a sentence each."""
    try:
        params = workspace.read_params()
        now = partition_params(params)
        keys = sorted(now.keys() | reading.params)
        found = [f"params.yaml: {key}" for key in keys if now.get(key) != reading.params.get(key)]
        found += changed_lists(reading.lists, lists_digests(workspace, read_asked(workspace)))
        table = workspace.subjects_file(params)
        if table_digest(None if table is None else read_subjects(table)) != reading.table:
            found.append(f"{table or 'the table of subjects'}: names others")
        folder = workspace.source_folder(params)
        if params.data.source == "imagefolder":
            listing = list_pictures(folder)
            names = [f"{split}/{name}" for split in SPLITS for name in listing.pictures.get(split, ())]
            found += listing.problems
            found += [f"{folder}: the class {name}" for name in sorted({*listing.classes} ^ {*reading.classes})]
        else:
            names = list(reading.files)
    except SisaError as error:
        return [str(error)]
    return found + changed_files(folder, names, reading.files, full=full)


def changed_lists(before: Mapping[str, tuple[int, str]], now: Mapping[str, tuple[int, str]]) -> list[str]:
    found = []
    for name in sorted(before.keys() | now):
        (old, old_digest), (new, new_digest) = before.get(name, (0, "")), now.get(name, (0, ""))
        if old_digest != new_digest:
            found.append(
                f"{name}: it named {old} ids and names {new} now" if old != new else f"{name}: names other ids"
            )
    return found


def changed_files(folder: Path, names: Sequence[str], before: Mapping[str, Seen], *, full: bool) -> list[str]:
    digests = FileDigests(folder, None if full else before)
    present = set(names)
    found = [f"{shown(folder / name)}: removed" for name in before if name not in present]
    for name in names:
        known = before.get(name)
        try:
            if known is None:
                found.append(f"{shown(folder / name)}: added")
            elif digests.digest(name).hex() != known[4]:
                found.append(f"{shown(folder / name)}: another content")
        except ChangedError as error:
            found.append(str(error))
        except OSError as error:
            found.append(f"{shown(folder / name)}: cannot be read ({error.strerror})")
    return found


def changed_lists_by_digest(workspace: Workspace) -> list[str]:
    """Whether the lists name what they did, by the digest that the partition's summary has."""
    try:
        summary = read_summary(workspace.partition_file)
        ids = {entry.sample_id for entry in read_asked(workspace)}
    except SisaError as error:
        return [str(error)]
    same = ids_digest(ids) == max(summary.forgotten, summary.monitored, key=lambda lists: lists.listed).sha256
    return [] if same else [f"{workspace.forget_folder}: the lists name other ids"]


def unreadable_lists(workspace: Workspace) -> list[str]:
    try:
        read_asked(workspace)
    except SisaError as error:
        return [str(error)]
    return []


def lists_digests(workspace: Workspace, lists: Iterable[Entry]) -> dict[str, tuple[int, str]]:
    named: dict[str, set[str]] = {}
    for entry in lists:
        named.setdefault(workspace.short(entry.file), set()).add(entry.sample_id)
    return {name: (len(ids), ids_digest(ids)) for name, ids in named.items()}


def table_digest(table: Mapping[str, str] | None) -> str | None:
    return None if table is None else hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest()


def partition_params(params: Params) -> dict[str, Any]:
    """By dotted key what decides a partition of params.yaml."""
    document = params.model_dump(mode="json")
    return {
        "seed": document["seed"],
        "sisa.shards": document["sisa"]["shards"],
        "sisa.slices": document["sisa"]["slices"],
        **{f"{name}.{key}": value for name in ("data", "forget", "poison") for key, value in document[name].items()},
    }
