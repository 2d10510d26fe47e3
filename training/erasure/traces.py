"""The places where old state can lie: one entry each, what counts there, and how it is emptied.

All of them are *derived*: whatever lies there was made of the samples, and ends at zero. The source, which the samples
themselves lie in, is a thing apart (training/erasure/purge.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from serving.ensemble.manifest import Manifest
from training.data.features import read_features
from training.data.store import Shard, load_shard, readable_shards
from training.dvc import ask_dvc
from training.errors import DamagedError
from training.files import remove
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


def places(workspace: Workspace) -> list[Place]:
    """Every place that can be reached from here, in the order in which they are emptied."""
    dvc = workspace.root / ".dvc"
    here = [
        Place("queue", lambda: queued(workspace), lambda: ask_dvc(workspace, "queue", "remove", "--all", "-q")),
        Place("experiments", lambda: experiments(workspace), lambda: remove_experiments(workspace)),
        folder_place("temporary experiments", dvc / "tmp/exps"),
        folder_place("run-cache", dvc / "cache/runs"),
        *own_cache(workspace),
        *remote_places(workspace),
        folder_place("drills", workspace.drills_folder),
        Place("bentos", lambda: list(map(str, old_bentos(workspace))), lambda: remove_all(old_bentos(workspace))),
        Place("members index", lambda: names(old_tables(workspace)), lambda: remove_all(old_tables(workspace))),
        Place("features", lambda: names(old_features(workspace)), lambda: remove_all(old_features(workspace))),
        folder_place("verifications", workspace.memory_folder / "verify"),
        folder_place("requesters' salts", workspace.requesters_folder),
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


def experiments(workspace: Workspace) -> list[str]:
    """The references that git keeps of experiments, also of failed and stashed ones."""
    done = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/exps"],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def queued(workspace: Workspace) -> list[str]:
    """Tasks of the queue, whatever became of them."""
    if not (workspace.root / ".dvc/tmp/exps").is_dir():
        return []  # to ask would make one
    out = ask_dvc(workspace, "queue", "status")
    return [line.split()[0] for line in out.splitlines() if re.match(r"^[0-9a-f]{7}\s", line)]


def remove_experiments(workspace: Workspace) -> None:
    ask_dvc(workspace, "exp", "remove", "-A", "-q")
    for reference in experiments(workspace):  # what that leaves: stashes, and those of failed runs
        subprocess.run(["git", "update-ref", "-d", reference], cwd=workspace.root, check=True)


def cache_folder(workspace: Workspace) -> Path:
    return (workspace.root / ask_dvc(workspace, "cache", "dir").strip()).resolve()


def own_cache(workspace: Workspace) -> Iterator[Place]:
    """DVC's cache, unless it lies elsewhere: others may use it too, and what they need is not known here."""
    folder = cache_folder(workspace)
    if folder.is_relative_to(workspace.root):
        yield Place(
            "DVC's cache",
            finder(workspace, folder / "files/md5"),
            lambda: ask_dvc(workspace, "gc", "-w", "-f"),
        )


def remotes(workspace: Workspace) -> dict[str, str]:
    """By name the address of every remote that DVC knows, as it is configured."""
    found = re.findall(r"^remote\.(.+)\.url=(.+)$", ask_dvc(workspace, "config", "--list"), re.M)
    return dict(found)


def local_folder(workspace: Workspace, address: str) -> Path | None:
    """The folder of a remote, relative to .dvc where it is not absolute; None where it is on another machine."""
    return None if re.match(r"^[a-z0-9+]+://", address) else (workspace.root / ".dvc" / address).resolve()


def remote_places(workspace: Workspace) -> Iterator[Place]:
    for name, address in remotes(workspace).items():
        folder = local_folder(workspace, address)
        collect = collector(workspace, name)
        if folder is None:
            yield Place(f"remote {name}", list, collect)  # DVC can empty it, and nobody can look into it from here
        else:
            yield Place(f"remote {name}", finder(workspace, folder / "files/md5"), collect)
            yield folder_place(f"remote {name}, run-cache", folder / "runs")


def finder(workspace: Workspace, folder: Path) -> Callable[[], list[str]]:
    return lambda: unused(workspace, folder)


def collector(workspace: Workspace, remote: str) -> Callable[[], object]:
    def collect() -> None:
        ask_dvc(workspace, "push", "-q", "-r", remote)  # or it may lack what is used, and DVC warns
        ask_dvc(workspace, "gc", "-w", "-c", "-r", remote, "-f")

    return collect


def unused(workspace: Workspace, store: Path) -> list[str]:
    """Objects of a cache or remote that dvc.lock does not call for, by their names there."""
    used = used_objects(workspace)
    return [
        path.name for path in sorted(store.rglob("*")) if path.is_file() and path.parent.name + path.name not in used
    ]


def used_objects(workspace: Workspace) -> set[str]:
    """The MD5 of every output in dvc.lock, and of every file of those that are folders."""
    lock = yaml.safe_load((workspace.root / "dvc.lock").read_text(encoding="utf-8"))
    used = {out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
    for name in [name for name in used if name.endswith(".dir")]:
        listing = cache_folder(workspace) / "files/md5" / name[:2] / name[2:]
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
