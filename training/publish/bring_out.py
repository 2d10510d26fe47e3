"""How a generation comes out: its models, then its entry in the ledger, then its manifest, then the old models go.

A service may be reading meanwhile. So a published model's name holds its digest and its bytes never change, and the
manifest is replaced in one step: whenever the service looks, a manifest and all its models are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from serving.ensemble.manifest import LedgerHead, Manifest, Release
from training.errors import PublishError
from training.files import remove, write_atomic, write_if_changed
from training.publish.events import Entry, Published
from training.publish.history import generation_of, last_generation
from training.publish.ledger import Ledger
from training.publish.progress import open_requests
from training.workspace import Workspace


def bring_out(
    workspace: Workspace,
    ledger: Ledger,
    release: Release,
    entry_of: Callable[[Manifest, dict[str, object]], Entry],
    *,
    trained: bool = False,
) -> Manifest:
    """Make a release what is published, under the next number unless it is the last generation already.

    ``entry_of``: from the manifest and the next entry's stamp (``Ledger.stamp``) to that entry. ``trained``: that one
    is ``published``. May be stopped at any point and called again. Raises PublishError when a model is missing or not
    the one listed; nothing changes then.
    """
    entries, stamp = ledger.read(), ledger.stamp()
    models = read_models(workspace, release)  # all of them, before anything is published
    manifest = last_manifest(workspace, release, entries)
    entry = None
    if manifest is None:
        manifest = make_manifest(workspace, release, entries, str(stamp["previous"]), trained=trained)
        entry = entry_of(manifest, stamp)
    for file, content in zip(files_of(manifest), models, strict=True):
        path = workspace.models_folder / file
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
    if entry is not None:
        ledger.append(entry)
    write_if_changed(workspace.manifest_file, manifest.to_bytes())
    prune(workspace, manifest)
    return manifest


def last_manifest(workspace: Workspace, release: Release, entries: Sequence[Entry]) -> Manifest | None:
    """The last generation's manifest, if it is that of this release."""
    last = last_generation(entries)
    if last is None:
        return None
    before, trained = entries[: last.number - 1], isinstance(last, Published)
    manifest = make_manifest(workspace, release, before, last.previous, trained=trained, generation=generation_of(last))
    return manifest if hashlib.sha256(manifest.to_bytes()).hexdigest() == last.manifest_sha256 else None


def make_manifest(
    workspace: Workspace, release: Release, entries: Sequence[Entry], head: str, *, trained: bool, generation: int = 0
) -> Manifest:
    """The release as a generation, its models where they are served from.

    ``entries``: of the ledger before it. ``head``: hex SHA-256 of the last of them. ``generation``: 0 for the next.
    """
    shards, backbone = [], release.backbone
    if backbone is not None:
        path = workspace.published_backbone(backbone.sha256)
        backbone = backbone.model_copy(update={"file": path.relative_to(workspace.models_folder).as_posix()})
    for shard in release.shards:
        if shard.sha256 is not None:
            path = workspace.published_file(shard.shard, shard.sha256)
            shard = shard.model_copy(update={"file": path.relative_to(workspace.models_folder).as_posix()})  # noqa: PLW2901
        shards.append(shard)
    return Manifest(
        **{**dict(as_release(release)), "shards": tuple(shards), "backbone": backbone},
        generation=generation or generation_of(last_generation(entries)) + 1,
        ledger=LedgerHead(length=len(entries), head=head) if entries else None,
        open_requests=open_requests(entries, release, trained=trained),
    )


def as_release(release: Release) -> Release:
    """What a release, or a manifest, says of its models."""
    return Release(**{name: getattr(release, name) for name in Release.model_fields})


def read_models(workspace: Workspace, release: Release) -> list[bytes]:
    """What ``files_of`` names. Raises PublishError when one is not the one that is listed."""
    models = []
    for file, sha256 in files_of(release).items():
        path = workspace.models_folder / file
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise PublishError(
                f"{path} is missing or not the model that {workspace.release_file} lists; nothing was published"
            )
        models.append(content)
    return models


def files_of(release: Release) -> dict[str, str]:
    """The files that answer, relative to the folder of models, and the SHA-256 of each: backbone, then shards."""
    files = {} if release.backbone is None else {release.backbone.file: release.backbone.sha256}
    return files | {str(shard.file): str(shard.sha256) for shard in release.voters}


def digests(manifest: Manifest) -> dict[str, object]:
    """What the ledger's entry says of a manifest."""
    content = manifest.to_bytes()
    return {"generation": manifest.generation, "manifest_sha256": hashlib.sha256(content).hexdigest()}


def prune(workspace: Workspace, manifest: Manifest) -> None:
    """Delete published models that the manifest does not list: they have seen what is forgotten."""
    keep = {workspace.models_folder / file for file in files_of(manifest)}
    for path in set(workspace.onnx_folder.glob("*")) - keep:
        remove(path)
