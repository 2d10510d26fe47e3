"""The only writer of what is served: ``models/ensemble.json`` and ``models/onnx/``.

A service may be reading meanwhile. So a published model's name holds its digest and its bytes never
change: new models are added, the generation is entered into the ledger, the manifest is replaced in
one step, then what it no longer lists is deleted. Whenever the service looks, a manifest and all its
models are there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from serving.ensemble.manifest import EnsembleUnavailable, Manifest, Release
from training.errors import LedgerError, PublishError
from training.files import remove, write_atomic
from training.publish.candidate import read_release
from training.publish.ledger import Imported, ImportedShard, Ledger, Published
from training.publish.record import ShardRecord
from training.publish.release import read_records
from training.workspace import Workspace

logger = logging.getLogger(__name__)


def publish(workspace: Workspace) -> Manifest | None:
    """Publish the release candidate, unless it is what is published already; None in an experiment.

    May be stopped at any point and called again. Raises DamagedError when the candidate or one of its
    models is missing or damaged (what was published stays), LedgerError when the ledger is.
    """
    if workspace.is_experiment:
        logger.info("an experiment publishes nothing; `sisa publish` does, when its models are what is to be served")
        return None
    with workspace.publish_lock():
        ledger = Ledger(workspace.ledger_file, workspace.ledger_export)
        entries = ledger.reconcile()
        if not entries and workspace.manifest_file.is_file():
            ledger.append(imported(workspace, ledger))
            entries = ledger.read()
        check_not_behind(workspace, entries)
        release = read_release(workspace)
        records = list(read_records(workspace, release))
        models = read_models(workspace, release)  # all of them, before anything is published
        digest = hashlib.sha256(release.to_bytes()).hexdigest()
        last = entries[-1] if entries else None
        if isinstance(last, Published) and last.release_sha256 == digest:
            manifest, entry = make_manifest(workspace, release, last.generation), None
        else:
            check_models(workspace, release)
            manifest = make_manifest(workspace, release, last.generation + 1 if last else 1)
            entry = published(manifest, digest, records, ledger)
        for shard, content in zip(manifest.voters, models, strict=True):
            assert shard.sha256 is not None
            path = workspace.published_file(shard.shard, shard.sha256)
            if not path.is_file() or path.read_bytes() != content:
                write_atomic(path, content)
        if entry is not None:
            ledger.append(entry)
        content = manifest.to_bytes()
        if not workspace.manifest_file.is_file() or workspace.manifest_file.read_bytes() != content:
            write_atomic(workspace.manifest_file, content)
        prune(workspace, manifest)
    return manifest


def read_models(workspace: Workspace, release: Release) -> list[bytes]:
    """The candidate's models. Raises PublishError when one is not the one that is listed."""
    models = []
    for shard in release.voters:
        assert shard.file is not None
        path = workspace.models_folder / shard.file
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise PublishError(
                f"{path} is missing or not the model that {workspace.release_file} lists; nothing was published"
            )
        models.append(content)
    return models


def check_models(workspace: Workspace, release: Release) -> None:
    """Raise PublishError unless a service can open every model and each carries the key that is listed for it."""
    from serving.ensemble.loading import open_session  # onnxruntime takes a third of a second to import

    for shard in release.voters:
        try:
            session = open_session(workspace.models_folder, shard, release, "cpu")
        except EnsembleUnavailable as error:
            raise PublishError(f"{error}; nothing was published") from error
        carried = session.get_modelmeta().custom_metadata_map
        if (carried.get("key"), carried.get("shard")) != (shard.key, str(shard.shard)):
            raise PublishError(
                f"models/{shard.file} carries the key {carried.get('key')} of shard {carried.get('shard')}, listed is "
                f"{shard.key} of shard {shard.shard}; nothing was published"
            )


def check_not_behind(workspace: Workspace, entries: Sequence[Imported | Published]) -> None:
    """Raise LedgerError when the published manifest is of a later generation than the ledger knows.

    The ledger was then restored from an older copy: to count on from it would be going back for whoever
    serves. A manifest that cannot be read says nothing; the ledger decides then.
    """
    try:
        manifest = Manifest.model_validate_json(workspace.manifest_file.read_bytes())
    except (OSError, ValueError):
        return
    if entries and manifest.generation > entries[-1].generation:
        raise LedgerError(
            f"{workspace.manifest_file} is generation {manifest.generation}, the ledger ends with "
            f"{entries[-1].generation}: it is an older copy. Nothing was changed; see docs/ledger.md"
        )


def make_manifest(workspace: Workspace, release: Release, generation: int) -> Manifest:
    """The candidate as a generation, its models where they are served from."""
    shards = []
    for shard in release.shards:
        if shard.sha256 is not None:
            path = workspace.published_file(shard.shard, shard.sha256)
            shard = shard.model_copy(update={"file": path.relative_to(workspace.models_folder).as_posix()})  # noqa: PLW2901
        shards.append(shard)
    return Manifest(**{**dict(release), "generation": generation, "shards": tuple(shards)})


def published(manifest: Manifest, release_sha256: str, records: Sequence[ShardRecord], ledger: Ledger) -> Published:
    """The ledger's entry of a new generation."""
    return Published.model_validate(
        {
            **ledger.stamp(),
            "generation": manifest.generation,
            "manifest_sha256": hashlib.sha256(manifest.to_bytes()).hexdigest(),
            "release_sha256": release_sha256,
            "shards": records,
        }
    )


def imported(workspace: Workspace, ledger: Ledger) -> Imported:
    """The ledger's first entry where something was published before there was a ledger.

    Raises PublishError when that cannot be read: counting from 1 again would be going back for whoever
    serves it.
    """
    content = workspace.manifest_file.read_bytes()
    try:
        manifest = Manifest.model_validate_json(content)
    except ValueError as error:
        raise PublishError(
            f"{workspace.manifest_file} is damaged and there is no ledger ({workspace.ledger_file}), so the number of "
            "the next generation is not known. Restore one of them from a backup. If nothing that was served from "
            "here is still in use, delete the manifest: numbers then start at 1"
        ) from error
    shards = [
        ImportedShard(shard=shard.shard, retained=shard.retained, key=shard.key, sha256=shard.sha256)
        for shard in manifest.shards
    ]
    return Imported.model_validate(
        {
            **ledger.stamp(),
            "generation": manifest.generation,
            "manifest_sha256": hashlib.sha256(content).hexdigest(),
            "shards": shards,
        }
    )


def prune(workspace: Workspace, manifest: Manifest) -> None:
    """Delete published models that the manifest does not list: they have seen what is forgotten."""
    keep = {workspace.models_folder / shard.file for shard in manifest.voters if shard.file is not None}
    for path in set(workspace.onnx_folder.glob("*")) - keep:
        remove(path)
