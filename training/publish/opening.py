"""Opening a workspace's ledger: its copies brought together, and what was published before there was one imported."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from serving.ensemble.manifest import Manifest
from training.errors import DamagedError, LedgerError, PublishError
from training.files import read_json
from training.publish.events import Entry, Imported, ImportedShard
from training.publish.history import generation_of, last_generation
from training.publish.ledger import Ledger
from training.workspace import Workspace


def open_ledger(workspace: Workspace) -> Ledger:
    """The ledger, ready to be appended to; call it under ``Workspace.publish_lock``. An experiment's is only read.

    Raises LedgerError when it is damaged, its copies differ, or it is an older one than what is published, and
    PublishError when it is missing and what is published cannot be read.
    """
    ledger = Ledger(workspace.ledger_file, workspace.ledger_export)
    if workspace.is_experiment:
        return ledger
    entries = ledger.reconcile()
    if not entries and workspace.manifest_file.is_file():
        ledger.append(imported(workspace, ledger))
        entries = ledger.read()
    check_not_behind(workspace, entries)
    return ledger


def check_not_behind(workspace: Workspace, entries: Sequence[Entry]) -> None:
    """Raise LedgerError when the published manifest is of a later generation than the ledger knows.

    The ledger was then restored from an older copy: to count on from it would be going back for whoever
    serves. A manifest that cannot be read says nothing; the ledger decides then.
    """
    manifest, last = published_now(workspace), generation_of(last_generation(entries))
    if entries and manifest is not None and manifest.generation > last:
        raise LedgerError(
            f"{workspace.manifest_file} is generation {manifest.generation}, the ledger ends with "
            f"{last}: it is an older copy. Nothing was changed; see docs/ledger.md"
        )


def published_now(workspace: Workspace) -> Manifest | None:
    """What is published; None where nothing is, or what is cannot be read, which no service answers from either."""
    try:
        return Manifest.model_validate_json(workspace.manifest_file.read_bytes())
    except (OSError, ValueError):
        return None


def answering_now(workspace: Workspace) -> Manifest | None:
    """What is published, as a service answers from it that was told to withdraw models and shares ``models/``."""
    manifest = published_now(workspace)
    return None if manifest is None else manifest.without(told_to_services(workspace.models_folder / "withdrawn.json"))


def told_to_services(path: Path) -> set[str]:
    """Hex SHA-256 of the models that services that share ``models/`` were told to withdraw; none where none was.

    Raises DamagedError when the file is damaged.
    """
    if not path.is_file():
        return set()
    withdrawn = read_json(path).get("withdrawn")
    if not isinstance(withdrawn, dict):
        raise DamagedError(f"{path} is damaged: it lists no withdrawn models; restore it from a backup")
    return set(withdrawn)


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
