"""`sisa purge`: what is left of earlier generations and of forgotten samples is removed, and looked for afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from training.data.duplicates import match_files
from training.dvc import ask_dvc
from training.erasure.findings import keep
from training.erasure.scan import Scanner, Trace, files_below, shown
from training.erasure.source import source_as_read
from training.erasure.superseded import superseded
from training.erasure.traces import Stores, find_stores, places
from training.errors import PurgeError, SourceError
from training.files import sync_folder
from training.git import ask_git
from training.memory.suppressed import Memory
from training.params import Params
from training.publish.copies import copies_with
from training.publish.events import Purged
from training.publish.history import read_history
from training.publish.memory import open_memory
from training.publish.opening import open_ledger, published_now
from training.publish.progress import follow
from training.workspace import Workspace

logger = logging.getLogger(__name__)

# What no command here can reach; said in every result, so that nobody takes silence for absence.
ELSEWHERE = (
    "other clones of the repository, and what their DVC caches hold",
    "services and images on other machines: they answer from copies (publish.services, deploy/README.md)",
    "what symbolic links lead to, git's objects (.git) and the environment (.venv)",
    "backups and snapshots of this machine and of remotes, and older versions of objects in versioned stores",
    "git's history: ids in forget lists that were ever committed, and experiments' commits until `git gc --prune=now`",
)


class Cleared(BaseModel):
    """A place. ``found``: files, objects or references that had to go; ``left``: those that are still there."""

    model_config = ConfigDict(frozen=True)

    place: str
    found: int
    left: int


class Purge(BaseModel):
    """What `sisa purge` came to. ``dry_run``: nothing was removed, and ``left`` is what was found.

    ``traces``: what a scan of everything within reach found at the end, file by file. ``source``: forgotten samples
    whose picture the source still holds. ``unread``: files within reach that could not be looked into, with the reason.
    ``unreachable``: what is not within reach.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    time: str
    generation: int
    dry_run: bool
    places: tuple[Cleared, ...]
    scanned: int
    traces: tuple[Trace, ...]
    source: int
    unread: tuple[str, ...] = ()
    unreachable: tuple[str, ...]

    @property
    def found(self) -> int:
        return sum(place.found for place in self.places)

    @property
    def removed(self) -> int:
        return sum(place.found - place.left for place in self.places)

    @property
    def left(self) -> int:
        return sum(place.left for place in self.places) + len(self.traces)

    @property
    def complete(self) -> bool:
        """Whether everything within reach was looked into and nothing derived is left; the source is another matter."""
        return not self.dry_run and self.left == 0 and not self.unread


def purge(workspace: Workspace, *, dry_run: bool = False, source: bool = False) -> Purge:
    """Empty every place, scan, and enter into the ledger what was found; interrupted, the next one does the rest.

    ``dry_run``: look, and change nothing. ``source``: delete forgotten pictures of an image folder, too. Raises
    PurgeError when the pipeline is half done or not committed, since what is needed is then not known; DvcError when
    DVC fails.
    """
    if workspace.is_experiment:
        raise PurgeError("this is an experiment; purge in the project")
    refuse_half_done(workspace)
    entries = read_history(workspace)
    with workspace.publish_lock():
        memory, manifest = open_memory(workspace, entries), published_now(workspace)
    stores, params, wanted = find_stores(workspace), workspace.read_params(), superseded(entries, manifest, memory)
    if source and not dry_run:
        delete_from_source(workspace)
    held = forgotten_in_source(workspace, params, memory)
    cleared, unreachable = [], [*ELSEWHERE, *out_of_reach(stores)]
    for place in tqdm(places(workspace, stores), desc="purge", unit="place", leave=False, disable=None):
        found = place.find()
        if found and not dry_run:
            logger.info("%s: %d to remove", place.name, len(found))
            place.empty()
        cleared.append(Cleared(place=place.name, found=len(found), left=len(place.find()) if found else 0))
    scanner = Scanner(wanted)
    files = list(within_reach(workspace, params, stores, scanner.unread.append))
    scanner.scan(files)
    result = Purge(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        generation=0 if manifest is None else manifest.generation,
        dry_run=dry_run,
        places=tuple(cleared),
        scanned=len(files),
        traces=tuple(scanner.traces),
        source=len(held),
        unread=tuple(scanner.unread),
        unreachable=tuple(unreachable),
    )
    if not dry_run:
        enter(workspace, result)
    return result


def refuse_half_done(workspace: Workspace) -> None:
    """A half-finished run keeps the old digests in dvc.lock, and collecting garbage by it would keep the old models."""
    standing = follow(read_history(workspace))
    if standing.open or standing.away:
        raise PurgeError("a request is not carried out yet; run `dvc repro`, commit dvc.lock, and purge then")
    stale = ask_dvc(workspace, "status", "--json").strip()
    if stale not in ("", "{}"):
        raise PurgeError(
            "the pipeline is not up to date (`dvc status`); run `dvc repro`, commit dvc.lock, and purge then"
        )
    if ask_git(workspace, "status", "--porcelain", "--", "dvc.lock") != "":
        raise PurgeError(
            "dvc.lock is not committed: until it is, git has one that calls for earlier models. "
            "`git add dvc.lock models/ledger.jsonl && git commit`, and purge then"
        )


def out_of_reach(stores: Stores) -> Iterator[str]:
    """What this workspace uses and cannot look into."""
    for name, address in stores.remotes.items():
        if stores.folder(name) is None:
            yield f"remote {name} ({address}): emptied through DVC, but not looked into"
    if not stores.has_own_cache:
        yield f"DVC's cache {stores.cache}: others may use it; `dvc gc -w --projects …` there, naming all of them"


def forgotten_in_source(workspace: Workspace, params: Params, memory: Memory) -> list[str]:
    """Ids of the source's training samples that are forgotten, or have the file of one that is, or its pixels, as the
    last partition found.

    Raises SourceError when there is no source.
    """
    if not memory.samples:
        return []
    train = source_as_read(workspace, params).train
    found = {match.index for match in match_files(memory.secret, memory.samples, train.ids, train.contents)}
    same = copies_with(workspace, "left out", exact=True)
    return [sample_id for index, sample_id in enumerate(train.ids) if index in found or sample_id in same]


def delete_from_source(workspace: Workspace) -> int:
    """Delete every forgotten picture of an image folder; how many there were. `dvc repro` then sees that they are gone.

    Raises PurgeError where samples are not files of their own, SourceError when there is no source.
    """
    with workspace.publish_lock():
        memory = open_memory(workspace, read_history(workspace))
    params = workspace.read_params()
    held = forgotten_in_source(workspace, params, memory)
    if held:
        delete_pictures(workspace, params, held)
    return len(held)


def delete_pictures(workspace: Workspace, params: Params, ids: Sequence[str]) -> None:
    """Raises PurgeError where samples are not files of their own."""
    if params.data.source != "imagefolder":
        raise PurgeError(
            f"--source deletes pictures of an image folder; {params.data.source} keeps all samples in archives, from "
            "which none can be taken out"
        )
    folder = workspace.source_folder(params) / "train"
    for sample_id in ids:
        path = folder / sample_id
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    logger.info("deleted %d forgotten pictures from %s; `dvc repro` takes note", len(ids), workspace.short(folder))


def within_reach(
    workspace: Workspace, params: Params, stores: Stores, unread: Callable[[str], object]
) -> Iterator[Path]:
    """Every file that is looked into: all of the workspace but git's, the environment's and the source's own; local
    remotes; DVC's cache, wherever it is. ``unread``: is told of each folder that cannot be read."""
    root, home = workspace.root, workspace.source_folder(params)
    left_out = [root / ".git", root / ".venv", root / ".uv", home, workspace.suppressed_file]
    yield from files_below(root, left_out, unread)
    try:
        own = {home / file for file in source_as_read(workspace, params).files}
    except SourceError as error:
        unread(f"{shown(home)}: {error}")
    else:
        yield from files_below(home, own, unread)
    for folder in (stores.cache, *map(stores.folder, stores.remotes)):
        if folder is not None and not folder.is_relative_to(root):
            yield from files_below(folder, unread=unread)


def enter(workspace: Workspace, result: Purge) -> None:
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        said = {
            **ledger.stamp(),
            "generation": result.generation,
            "removed": result.removed,
            "left": result.left,
            "source": result.source,
            "unreachable": (*result.unread, *result.unreachable),
            "findings_sha256": keep(workspace, result),
        }
        ledger.append(Purged.model_validate(said))
