"""Publishing: the only writer of what is served, whole at every moment, numbered by the ledger."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from conftest import Project
from faults import stopped_at_sync

from training.errors import DamagedError, LedgerError, PublishError, SisaError
from training.publish.events import Imported, Published
from training.publish.history import cost, read_history
from training.publish.publish import publish
from training.workspace import Workspace


def served(project: Project) -> dict[str, bytes]:
    return {**project.contents("models/onnx"), "manifest": project.workspace.manifest_file.read_bytes()}


def is_whole(project: Project) -> bool:
    """Whether every model that the manifest lists is there and is the one it lists."""
    shards = project.manifest()["shards"]
    files = {shard["file"]: shard["sha256"] for shard in shards if shard["file"]}
    return all(
        hashlib.sha256((project.folder / "models" / file).read_bytes()).hexdigest() == sha256
        for file, sha256 in files.items()
    )


def test_the_first_generation_is_1_and_the_ledger_holds_all_of_it(trained: Project) -> None:
    manifest = trained.manifest()
    assert manifest["generation"] == 1
    assert is_whole(trained)
    (entry,) = read_history(trained.workspace)
    assert isinstance(entry, Published)
    assert entry.generation == 1
    assert entry.manifest_sha256 == hashlib.sha256(trained.workspace.manifest_file.read_bytes()).hexdigest()
    assert [shard.keys[-1] for shard in entry.shards] == [shard["key"] for shard in manifest["shards"]]
    assert [shard.sha256 for shard in entry.shards] == [shard["sha256"] for shard in manifest["shards"]]
    assert [shard.retained for shard in entry.shards] == [len(trained.shard(shard_id)) for shard_id in range(3)]
    assert all(len(shard.keys) == len(shard.slices) == 3 for shard in entry.shards)
    spent = cost([entry])
    counts = [[trained.shard(k).slices.tolist().count(r) for r in range(3)] for k in range(3)]
    by_hand = sum(sum(shard[: r + 1]) for shard in counts for r in range(3))  # one epoch a slice
    assert spent.sample_epochs == spent.full_sample_epochs == by_hand
    assert spent.seconds == pytest.approx(spent.full_seconds)
    assert spent.seconds > 0


def test_publishing_the_same_again_changes_nothing(trained: Project) -> None:
    before = served(trained), trained.workspace.ledger_file.read_bytes()
    inode = trained.workspace.manifest_file.stat().st_ino
    publish(trained.workspace)
    assert (served(trained), trained.workspace.ledger_file.read_bytes()) == before
    assert trained.workspace.manifest_file.stat().st_ino == inode  # a service would otherwise load it again


def test_the_generation_rises_with_the_content_alone(trained: Project) -> None:
    trained.change(sisa__aggregation="vote")
    trained.stages("assemble")
    assert (trained.manifest()["generation"], trained.manifest()["aggregation"]) == (2, "vote")
    trained.stages("assemble")
    assert trained.manifest()["generation"] == 2
    assert cost(read_history(trained.workspace)).sample_epochs == 0  # the same models


def test_a_forgotten_sample_is_a_generation_whose_cost_is_the_difference_of_two_chains(trained: Project) -> None:
    victim = trained.victim(1, 1)
    trained.forget(victim)
    trained.stages("partition", "schedule", "train", "assemble")
    spent = cost(read_history(trained.workspace))
    counts = [trained.shard(1).slices.tolist().count(r) for r in range(3)]
    assert (spent.shards, spent.slices) == (1, 2)
    assert spent.sample_epochs == (counts[0] + counts[1]) + sum(counts)
    first, requested, withdrawn, second = read_history(trained.workspace)
    assert (requested.event, withdrawn.event) == ("requested", "withdrawn")
    assert isinstance(first, Published)
    assert isinstance(second, Published)
    roots = [(a.merkle_root == b.merkle_root) for a, b in zip(first.shards, second.shards, strict=True)]
    assert roots == [True, False, True]
    published = {f"onnx/{path.name}" for path in trained.workspace.onnx_folder.iterdir()}
    assert published == {shard["file"] for shard in trained.manifest()["shards"]}  # the old model is gone


def test_an_older_manifest_or_a_lost_one_is_put_right_under_the_same_number(trained: Project) -> None:
    first = trained.workspace.manifest_file.read_bytes()
    trained.change(sisa__aggregation="vote")
    trained.stages("assemble")
    second = served(trained)
    for content in (first, b"damaged", None):
        if content is None:
            trained.workspace.manifest_file.unlink()
            shutil.rmtree(trained.workspace.onnx_folder)
        else:
            trained.workspace.manifest_file.write_bytes(content)
        publish(trained.workspace)
        assert served(trained) == second


def test_a_model_of_another_key_is_not_assembled(trained: Project) -> None:
    before = served(trained)
    workspace = trained.workspace
    shutil.copy(workspace.export_file(0), workspace.export_file(1))
    with pytest.raises(DamagedError, match=r"shard-1\.onnx has sha256 [0-9a-f]+, its record says"):
        trained.stages("assemble")
    shutil.copy(workspace.export_record(0), workspace.export_record(1))
    with pytest.raises(DamagedError, match=r"shard-1\.onnx carries the key [0-9a-f]+, the plan of shard 1 calls for"):
        trained.stages("assemble")
    (workspace.export_file(1)).unlink()
    (workspace.export_record(1)).unlink()
    with pytest.raises(DamagedError, match=r"shard-1\.json is missing"):
        trained.stages("assemble")
    assert served(trained) == before


def test_a_candidate_whose_model_was_swapped_is_not_published(trained: Project) -> None:
    before = served(trained)
    path = trained.workspace.export_file(2)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PublishError, match=r"shard-2\.onnx is missing or not the model that .*; nothing was published"):
        publish(trained.workspace)
    assert served(trained) == before


def test_an_experiment_publishes_nothing_and_writes_no_ledger(trained: Project) -> None:
    folder = trained.folder / ".dvc/tmp/exps/tmpabc"
    shutil.copytree(trained.folder, folder, ignore=shutil.ignore_patterns(".dvc", ".sisa"))
    (folder / "models/ensemble.json").unlink()
    assert publish(Workspace(folder)) is None
    assert not (folder / "models/ensemble.json").exists()
    assert not (folder / ".sisa/ledger.jsonl").exists()


def test_a_workspace_that_published_before_there_was_a_ledger_counts_on(trained: Project) -> None:
    shutil.rmtree(trained.workspace.memory_folder)
    trained.workspace.ledger_export.unlink()
    manifest = {**trained.manifest(), "generation": 41}
    manifest["shards"][0]["key"] = "of an earlier version"
    trained.workspace.manifest_file.write_text(json.dumps(manifest))
    publish(trained.workspace)
    imported, published = read_history(trained.workspace)
    assert isinstance(imported, Imported)
    assert isinstance(published, Published)
    assert (imported.generation, published.generation) == (41, 42)
    assert imported.shards[0].key == "of an earlier version"
    assert trained.manifest()["generation"] == 42
    spent = cost([imported, published])
    assert spent.sample_epochs == spent.full_sample_epochs  # everything was retrained


def test_a_damaged_manifest_without_a_ledger_stops(trained: Project) -> None:
    shutil.rmtree(trained.workspace.memory_folder)
    trained.workspace.ledger_export.unlink()
    trained.workspace.manifest_file.write_text("{")
    with pytest.raises(PublishError, match=r"there is no ledger .* so the number of the next generation is not known"):
        publish(trained.workspace)
    assert trained.workspace.manifest_file.read_text() == "{"


def test_a_clone_continues_from_the_ledgers_export(trained: Project) -> None:
    shutil.rmtree(trained.workspace.memory_folder)  # git brings models/ledger.jsonl, and DVC the models
    trained.workspace.manifest_file.unlink()
    publish(trained.workspace)
    assert trained.manifest()["generation"] == 1
    trained.change(sisa__aggregation="vote")
    trained.stages("assemble")
    assert trained.manifest()["generation"] == 2
    assert len(read_history(trained.workspace)) == 2


def test_a_ledger_that_is_behind_the_manifest_stops(trained: Project) -> None:
    first = trained.workspace.ledger_export.read_bytes()
    trained.change(sisa__aggregation="vote")
    trained.stages("assemble")
    before = served(trained)
    shutil.rmtree(trained.workspace.memory_folder)  # lost, and git brings back an older export
    trained.workspace.ledger_export.write_bytes(first)
    trained.change(sisa__aggregation="mean")
    with pytest.raises(LedgerError, match=r"is generation 2, the ledger ends with 1: it is an older copy"):
        trained.stages("assemble")
    assert served(trained) == before


def test_a_record_that_was_edited_is_not_published(trained: Project) -> None:
    path = trained.workspace.export_record(0)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "retained": 99999}))
    with pytest.raises(DamagedError, match=r"the record of .*shard-0\.onnx is not that of shard 0 with"):
        trained.stages("assemble")
    trained.stages("train", "assemble")  # writes it again, from the checkpoints
    assert json.loads(path.read_text()) == record


def test_another_shards_model_under_an_adjusted_record_is_not_published(trained: Project) -> None:
    before = served(trained)
    workspace = trained.workspace
    record = json.loads((workspace.export_record(0)).read_text())
    shutil.copy(workspace.export_file(1), workspace.export_file(0))
    record["sha256"] = hashlib.sha256((workspace.export_file(0)).read_bytes()).hexdigest()
    (workspace.export_record(0)).write_text(json.dumps(record))
    with pytest.raises(PublishError, match=r"carries the key [0-9a-f]+ of shard 1, listed is [0-9a-f]+ of shard 0"):
        trained.stages("assemble")
    assert served(trained) == before


@pytest.mark.parametrize("change", [{"image_shape": [9, 9, 3]}, {"shards": []}, {"classes": ["a", "b"]}])
def test_a_candidate_that_no_service_could_open_is_not_published(trained: Project, change: dict[str, object]) -> None:
    before = served(trained)
    path = trained.workspace.release_file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises((PublishError, DamagedError)):
        publish(trained.workspace)
    assert served(trained) == before


@pytest.mark.parametrize("name", ["release_file", "ledger_export", "manifest_file"])
def test_a_folder_in_place_of_a_file_is_an_error_that_names_it(trained: Project, name: str) -> None:
    path: Path = getattr(trained.workspace, name)
    path.unlink()
    path.mkdir()
    with pytest.raises((SisaError, OSError), match=path.name.replace(".", r"\.")):
        publish(trained.workspace)


EVENTS = ["published", "requested", "withdrawn", "fell-back", "published"]


def test_stopped_at_any_step_it_is_whole_and_the_next_call_completes_it(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.change(publish={"readmit": "together"})
    trained.forget(trained.victim(0, 2), trained.victim(2, 0))
    trained.stages("partition", "schedule", "train")
    reference = trained.copy(tmp_path / "reference")
    reference.stages("assemble")
    expected = served(reference)

    steps = 0
    while True:
        project = trained.copy(tmp_path / f"stopped-{steps}")
        if not stopped_at_sync(steps, partial(project.stages, "assemble"), monkeypatch):
            break
        assert is_whole(project)  # what a service would find
        assert project.manifest()["generation"] in (3, 4)
        project.stages("assemble")
        assert served(project) == expected
        assert [entry.event for entry in read_history(project.workspace)] == EVENTS
        shutil.rmtree(project.folder)
        steps += 1
    assert steps > 8  # two models, the candidate, the ledger's two copies and the manifest, each synced
