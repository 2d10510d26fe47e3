"""A workspace of version 0.2.0 goes on: nothing is trained again, and nothing that was forgotten comes back."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from conftest import Project

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.errors import SisaError
from training.publish.history import read_history

MODELS = ("partition", "schedule", "train", "assemble")


def as_version_0_2_0_left_it(project: Project) -> None:
    """Without blocks, a memory, prints in the shard files, and the ledger's head in the manifest."""
    workspace = project.workspace
    for folder in (workspace.checkpoints_folder, workspace.exports_folder):
        for path in sorted(folder.glob("block-*/*")):
            if path.suffix == ".csv" or path.name == "shards.json":
                path.unlink()
            else:
                path.replace(folder / path.name)
        for block in folder.glob("block-*"):
            block.rmdir()
    for path in workspace.plan_folder.glob("block-*"):
        path.unlink()
    manifest = Manifest.model_validate(project.manifest()).model_copy(update={"ledger": None})
    workspace.manifest_file.write_bytes(manifest.to_bytes())
    entry = json.loads(workspace.ledger_file.read_text())
    entry["manifest_sha256"] = hashlib.sha256(manifest.to_bytes()).hexdigest()
    shutil.rmtree(workspace.memory_folder)
    workspace.memory_folder.mkdir()
    line = json.dumps(entry, sort_keys=True, separators=(",", ":")) + "\n"
    workspace.ledger_file.write_text(line)
    workspace.ledger_export.write_text(line)
    for path in (*workspace.shards_folder.glob("*.npy"), workspace.test_file):
        rows = np.load(path)
        names = [name for name in rows.dtype.names if name != "prints"]
        old = np.zeros(len(rows), [(name, rows.dtype[name]) for name in names])
        for name in names:
            old[name] = rows[name]
        np.save(path, old)
    partition = json.loads(workspace.partition_file.read_text())
    kept = ("source", "classes", "image_shape", "retained", "forgotten", "monitored", "poisoned")
    workspace.partition_file.write_text(json.dumps({name: partition[name] for name in kept}))


def checkpoint_stamps(project: Project) -> dict[str, tuple[int, int]]:
    paths = project.workspace.checkpoints_folder.rglob("*.safetensors")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def answering(project: Project) -> tuple[int, ...]:
    return tuple(shard.shard for shard in Manifest.model_validate(project.manifest()).voters)


def test_nothing_is_trained_again_and_what_was_forgotten_stays_so(trained: Project) -> None:
    victim = trained.victim(1, 1)
    trained.forget(victim)
    trained.stages(*MODELS)
    before, stamps = trained.checkpoints(), checkpoint_stamps(trained)
    entries = trained.workspace.ledger_file.read_text().splitlines(keepends=True)
    last = {**json.loads(entries[-1]), "number": 1, "previous": "0" * 64}
    trained.workspace.ledger_file.write_text(json.dumps(last))
    as_version_0_2_0_left_it(trained)
    trained.stages(*MODELS)
    assert trained.checkpoints() == before
    assert checkpoint_stamps(trained) == stamps  # moved into blocks
    assert answering(trained) == (0, 1, 2)
    assert [entry.event for entry in read_history(trained.workspace)] == ["published", "requested", "withdrawn"]
    trained.forget()
    with pytest.raises(SisaError, match=victim):
        trained.stages("partition")


def test_the_first_thing_that_is_asked_of_it_is_withdrawn_at_once(trained: Project) -> None:
    victim = trained.victim(1, 1)
    as_version_0_2_0_left_it(trained)
    trained.forget(victim)
    trained.stages("partition")
    assert turnout(Manifest.model_validate(trained.manifest())).pending == (1,)
    trained.stages(*MODELS)
    assert answering(trained) == (0, 1, 2)
    assert victim not in trained.shard(1).ids


def test_a_picture_that_was_deleted_and_listed_under_it_is_accepted_by_name(trained: Project) -> None:
    workspace = trained.workspace
    trained.forget("1436")
    trained.stages(*MODELS)
    entries = workspace.ledger_file.read_text().splitlines(keepends=True)
    workspace.ledger_file.write_text(json.dumps({**json.loads(entries[-1]), "number": 1, "previous": "0" * 64}))
    as_version_0_2_0_left_it(trained)
    trained.stages(*MODELS)
    assert read_history(workspace)[1].event == "requested"
