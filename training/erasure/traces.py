"""The places where old state can lie: one entry each, what counts there, and how it is emptied.

All of them are *derived*: whatever lies there was made of the samples, and ends at zero. The source, which the samples
themselves lie in, is a thing apart (training/erasure/purge.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from pydantic import ValidationError

from serving.ensemble.manifest import Manifest
from training.data.features import read_features
from training.data.store import Shard, load_shard, readable_shards
from training.dvc import ask_dvc
from training.errors import DamagedError
from training.files import remove
from training.git import ask_git, run_git
from training.publish.opening import published_now
from training.workspace import Workspace

ENGINES = ("docker", "podman")
IN_AN_IMAGE = "/home/bentoml/bento/src/models/ensemble.json"


@dataclass(frozen=True)
class Place:
    """``find``: what lies there that must go, a short text each. ``empty``: makes that nothing."""

    name: str
    find: Callable[[], list[str]]
    empty: Callable[[], object]


def places(workspace: Workspace, stores: Stores) -> list[Place]:
    """Every place that can be reached from here, in the order in which they are emptied."""
    dvc = workspace.root / ".dvc"
    here = [
        Place("queue", lambda: queued(workspace), lambda: ask_dvc(workspace, "queue", "remove", "--all", "-q")),
        Place("experiments", lambda: experiments(workspace), lambda: remove_experiments(workspace)),
        folder_place("temporary experiments", dvc / "tmp/exps"),
        folder_place("run-cache", dvc / "cache/runs"),
        *object_places(workspace, stores),
        folder_place("drills", workspace.drills_folder),
        Place("bentos", lambda: list(map(str, old_bentos(workspace))), lambda: remove_all(old_bentos(workspace))),
        Place("members index", lambda: names(old_tables(workspace)), lambda: remove_all(old_tables(workspace))),
        Place("features", lambda: names(old_features(workspace)), lambda: remove_all(old_features(workspace))),
        folder_place("verifications", workspace.erasure.verification),
        folder_place("requesters' salts", workspace.erasure.requesters),
    ]
    return [*here, *(image_place(workspace, engine) for engine in ENGINES if shutil.which(engine))]


def folder_place(name: str, folder: Path) -> Place:
    """A folder of which nothing is needed."""
    return Place(
        name,
        lambda: [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()],
        lambda: remove(folder) if folder.exists() else None,
    )


def names(paths: Collection[Path]) -> list[str]:
    return [path.name for path in sorted(paths)]


def remove_all(paths: Collection[Path]) -> None:
    for path in paths:
        remove(path)


# DVC's own.


@dataclass(frozen=True)
class Stores:
    """Where DVC keeps objects. ``cache``: its folder. ``remotes``: by name the address, as it is configured."""

    root: Path
    cache: Path
    remotes: Mapping[str, str]

    @property
    def has_own_cache(self) -> bool:
        """Whether the cache lies in the workspace; else others may use it too, and what they need is not known here."""
        return self.cache.is_relative_to(self.root)

    def folder(self, remote: str) -> Path | None:
        """The folder of a remote, relative to .dvc where it is not absolute; None where it is on another machine."""
        address = self.remotes[remote]
        return None if re.match(r"^[a-z0-9+]+://", address) else (self.root / ".dvc" / address).resolve()


def find_stores(workspace: Workspace) -> Stores:
    """Asks DVC, which takes most of a second each time."""
    cache = (workspace.root / ask_dvc(workspace, "cache", "dir").strip()).resolve()
    remotes = re.findall(r"^remote\.(.+)\.url=(.+)$", ask_dvc(workspace, "config", "--list"), re.M)
    return Stores(workspace.root, cache, dict(remotes))


def experiments(workspace: Workspace) -> list[str]:
    """The references that git keeps of experiments, also of failed and stashed ones."""
    return (ask_git(workspace, "for-each-ref", "--format=%(refname)", "refs/exps") or "").split()


def remove_experiments(workspace: Workspace) -> None:
    ask_dvc(workspace, "exp", "remove", "-A", "-q")
    for reference in experiments(workspace):  # what that leaves: stashes, and those of failed runs
        run_git(workspace, "update-ref", "-d", reference)


def queued(workspace: Workspace) -> list[str]:
    """Tasks of the queue, whatever became of them."""
    if not (workspace.root / ".dvc/tmp/exps").is_dir():
        return []  # to ask would make one
    out = ask_dvc(workspace, "queue", "status")
    return [line.split()[0] for line in out.splitlines() if re.match(r"^[0-9a-f]{7}\s", line)]


def object_places(workspace: Workspace, stores: Stores) -> Iterator[Place]:
    """The cache and every remote, each with what dvc.lock does not call for."""
    used = used_objects(workspace, stores.cache)
    if stores.has_own_cache:
        own = partial(unused, stores.cache / "files/md5", used)
        yield Place("DVC's cache", own, partial(ask_dvc, workspace, "gc", "-w", "-f"))
    for name in stores.remotes:
        folder, collect = stores.folder(name), partial(collect_garbage, workspace, name)
        if folder is None:
            yield Place(f"remote {name}", list, collect)  # DVC can empty it, and nobody can look into it from here
        else:
            yield Place(f"remote {name}", partial(unused, folder / "files/md5", used), collect)
            yield folder_place(f"remote {name}, run-cache", folder / "runs")


def collect_garbage(workspace: Workspace, remote: str) -> None:
    ask_dvc(workspace, "push", "-q", "-r", remote)  # or it may lack what is used, and DVC warns
    ask_dvc(workspace, "gc", "-w", "-c", "-r", remote, "-f")


def unused(store: Path, used: Set[str]) -> list[str]:
    """Objects of a cache or remote that are not used, by their names there."""
    return [
        path.name for path in sorted(store.rglob("*")) if path.is_file() and path.parent.name + path.name not in used
    ]


def used_objects(workspace: Workspace, cache: Path) -> set[str]:
    """The MD5 of every output in dvc.lock, and of every file of those that are folders."""
    lock = yaml.safe_load((workspace.root / "dvc.lock").read_text(encoding="utf-8"))
    used = {out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
    for name in [name for name in used if name.endswith(".dir")]:
        listing = cache / "files/md5" / name[:2] / name[2:]
        used |= {entry["md5"] for entry in json.loads(listing.read_bytes())} if listing.is_file() else set()
    return used


# Copies of generations.


def old_bentos(workspace: Workspace) -> list[Path]:
    """Bentos of other generations than the one that is published."""
    published = workspace.manifest_file.read_bytes() if workspace.manifest_file.is_file() else b""
    found = []
    for manifest in sorted((workspace.root / ".bentoml/bentos").glob("*/*/src/models/ensemble.json")):
        if manifest.read_bytes() != published:
            found.append(manifest.parents[2])
    return found


def old_tables(workspace: Workspace) -> list[Path]:
    """Members tables of models that do not answer any more, and that no withdrawal can need again."""
    manifest = published_now(workspace)
    now = set() if manifest is None else {shard.sha256 for shard in manifest.voters}
    return [path for path in sorted(workspace.members_folder.glob("*.npy")) if path.stem not in now]


def old_features(workspace: Workspace) -> list[Path]:
    """Files of features with a row of a picture that is in no shard file; the stage computes what is missing."""
    shards = readable_shards(workspace.shards_folder)
    known = {picture for shard in (*shards, *test_split(workspace)) for picture in shard.digests}
    found = []
    for path in sorted(workspace.features_folder.rglob("*.safetensors")):
        try:
            if not known.issuperset(read_features(path).pictures):
                found.append(path)
        except DamagedError:
            found.append(path)
    return found


def test_split(workspace: Workspace) -> Iterator[Shard]:
    if workspace.test_file.is_file():
        yield load_shard(workspace.test_file)


# Images, where an engine answers.


def image_place(workspace: Workspace, engine: str) -> Place:
    return Place(
        f"images of {engine}",
        lambda: old_images(workspace, engine),
        lambda: [run(engine, "rmi", "--force", image) for image in old_images(workspace, engine)],
    )


def old_images(workspace: Workspace, engine: str) -> list[str]:
    """The ids of images `sisa` that hold another generation than the one that is published."""
    manifest = published_now(workspace)
    found = []
    for image in (run(engine, "images", "--quiet", "--filter", "reference=sisa") or "").split():
        held = run(engine, "run", "--rm", "--network=none", "--entrypoint=cat", image, IN_AN_IMAGE)
        if held is None or not same_models(held, manifest):
            found.append(image)
    return list(dict.fromkeys(found))


def same_models(text: str, manifest: Manifest | None) -> bool:
    try:
        return manifest is not None and Manifest.model_validate_json(text) == manifest
    except ValidationError:
        return False


def run(*command: str) -> str | None:
    """What a command prints; None when it fails, as where no engine is running."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
