"""Heads on a frozen backbone, through the whole pipeline: digits, and their pixels as features."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from backbones import FROZEN, pixels, write
from conftest import MODELS, REPOSITORY, SMALL, Project, made_once
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from server import Server

from serving.ensemble.loading import load_ensemble
from training.backbone.extract import BATCH, Extractor
from training.blocks import BLOCKS, shards_of
from training.chain.plan import load_plan
from training.data.features import Maker, read_features, write_features
from training.erasure.verify import verify
from training.errors import DamagedError
from training.evaluation.candidate import answers, open_candidate, predict
from training.evaluation.reports import read_metrics
from training.forgetting.add import add

Images = NDArray[Any]


def make(folder: Path, **changes: object) -> Project:
    project = Project.create(folder, **{**FROZEN, **changes})
    write(project.folder / "models/initial/pixels.onnx", pixels(8))
    return project


@pytest.fixture(scope="session")
def frozen_base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return made_once(tmp_path_factory, "frozen", lambda folder: make(folder).stages(*MODELS))


@pytest.fixture
def frozen(frozen_base: Project, tmp_path: Path) -> Project:
    return frozen_base.copy(tmp_path / "frozen-project")


def features_of(project: Project) -> dict[str, bytes]:
    return project.contents("data/features")


def computed(output: str) -> int:
    """How many pictures' features were computed, by what the stage says."""
    (count,) = re.findall(r"(\d+) of them computed now", output)
    return int(count)


def test_forgetting_equals_never_having_seen_bit_for_bit(frozen: Project, tmp_path: Path) -> None:
    before = frozen.models()
    victim = frozen.victim(1, 0)
    frozen.forget(victim)
    frozen.stages(*MODELS)
    fresh = make(tmp_path / "fresh")
    fresh.forget(victim)
    fresh.stages(*MODELS)
    after = frozen.models()
    assert after == fresh.models()
    assert features_of(frozen) == features_of(fresh)
    differing = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert all("-1" in path for path in differing), "shard 1 and its block"


def test_a_forgotten_samples_row_is_gone_and_no_other_is_computed_again(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = frozen.victim(2, 0)
    shard = frozen.shard(2)
    picture = shard.digests[shard.ids.index(victim)]
    assert picture in read_features(frozen.workspace.features_file(2)).pictures
    before = features_of(frozen)
    frozen.forget(victim)
    frozen.stages("partition", "features")
    assert computed(capsys.readouterr().out) == 0
    assert picture not in read_features(frozen.workspace.features_file(2)).pictures
    after = features_of(frozen)
    assert {path for path in before if before[path] != after[path]} == {"data/features/shard-2.safetensors"}


def test_features_computed_again_are_the_same_bytes(frozen: Project) -> None:
    before = features_of(frozen)
    for path in frozen.workspace.features_folder.iterdir():
        path.unlink()
    frozen.stages("features")
    assert features_of(frozen) == before


def test_other_shards_take_rows_over_and_compute_none(frozen: Project, capsys: pytest.CaptureFixture[str]) -> None:
    frozen.change(sisa__shards=7)
    frozen.stages("partition", "features")
    assert computed(capsys.readouterr().out) == 0
    for shard_id in range(7):
        features = read_features(frozen.workspace.features_file(shard_id))
        rows = frozen.shard(shard_id).images.reshape(len(frozen.shard(shard_id)), -1) / np.float32(255)
        assert (features.rows() == rows.astype(np.float16)).all()


def test_another_environment_computes_all_again(frozen: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = features_of(frozen)
    path = frozen.workspace.features_file(0)
    held = read_features(path)
    other = held.maker.model_copy(update={"instructions": "pdp-11"})
    write_features(path, other, held.pictures, held.rows())
    frozen.stages("features")
    out = capsys.readouterr().out
    assert "pdp-11" in out
    assert computed(out) == len(held.pictures)
    assert features_of(frozen) == before


def test_another_backbone_computes_and_trains_everything(frozen: Project, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {shard_id: load_plan(frozen.workspace.plan_file(shard_id)).keys for shard_id in range(3)}
    proto = pixels(8)
    proto.producer_name = "someone else"  # the same graph in another file
    write(frozen.folder / "models/initial/pixels.onnx", proto)
    frozen.stages("features", "schedule")
    assert computed(capsys.readouterr().out) == 1797
    assert not any(load_plan(frozen.workspace.plan_file(shard_id)).keys == keys[shard_id] for shard_id in range(3))


def test_a_row_that_was_changed_is_found_out(frozen: Project) -> None:
    path = frozen.workspace.features_file(1)
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 5] ^= 1  # nearly all of it are rows
    path.write_bytes(content)
    for stale in frozen.workspace.checkpoints_folder.rglob("*.safetensors"):
        stale.unlink()
    with pytest.raises(DamagedError, match=r"shard-1\.safetensors is damaged"):
        frozen.stages("train")


def test_a_changed_row_changes_the_key(frozen: Project) -> None:
    workspace = frozen.workspace
    key = load_plan(workspace.plan_file(1)).keys[0]
    held = read_features(workspace.features_file(1))
    rows = held.rows()
    rows[-1, -1] += 1
    write_features(workspace.features_file(1), held.maker, held.pictures, rows)
    frozen.stages("schedule")
    assert load_plan(workspace.plan_file(1)).keys[0] != key


def test_missing_features_say_what_to_run(frozen: Project) -> None:
    frozen.workspace.features_file(1).unlink()
    done = frozen.stage("schedule", check=False)
    assert done.stderr == "error: data/features/shard-1.safetensors is missing; run `dvc repro features`\n"


def test_a_network_that_is_trained_as_a_whole_has_no_features(frozen: Project) -> None:
    frozen.change(network=SMALL["network"], training=SMALL["training"])
    frozen.stages("features")
    assert [path.name for path in frozen.workspace.features_folder.iterdir()] == ["none.txt"]


def test_what_is_served_answers_from_pictures_as_evaluation_does_from_features(frozen: Project) -> None:
    workspace = frozen.workspace
    frozen.stages("evaluate", "membership", "backdoor", "report")
    assert read_metrics(workspace.report("metrics.json")).mean.accuracy > 0.85
    ensemble, test = open_candidate(workspace), load_test(frozen)
    rows = range(len(test))
    from_features = answers(ensemble, test, rows, workspace.test_features_file)
    assert predict(ensemble, rows, test.images.__getitem__) == pytest.approx(from_features, abs=1e-5)
    served = load_ensemble(workspace.models_folder, threads=2).shard_probabilities(test.images[:5])
    assert served == pytest.approx(from_features[:, :5], abs=1e-5)


def load_test(project: Project):  # type: ignore[no-untyped-def]
    from training.data.store import load_checked

    return load_checked(project.workspace.test_file)


def test_the_backbone_is_published_beside_the_heads_and_stays_when_one_is_replaced(frozen: Project) -> None:
    backbone = frozen.manifest()["backbone"]
    assert backbone["features"] == 192
    content = (frozen.workspace.models_folder / backbone["file"]).read_bytes()
    assert content == (frozen.folder / "models/initial/pixels.onnx").read_bytes()
    frozen.forget(frozen.victim(0, 0))
    frozen.stages(*MODELS)
    assert frozen.manifest()["backbone"] == backbone
    names = sorted(path.name.split("-")[0] for path in frozen.workspace.onnx_folder.iterdir())
    assert names == ["backbone", "shard", "shard", "shard"]


@pytest.mark.heavy
def test_a_head_trained_by_sgd_is_exact_too(tmp_path: Path) -> None:
    sgd = {
        **{"method": "sgd", "epochs_per_slice": 2, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9},
        **{"nesterov": True, "weight_decay": 0.0, "schedule": "constant", "label_smoothing": 0.0},
        **{"augmentation": "none", "precision": "fp32", "threads": 1},
    }
    changes = {"training": sgd, "sisa__slices": 2, "sisa__shards": 2}
    one, two = make(tmp_path / "one", **changes), make(tmp_path / "two", **changes)
    one.stages(*MODELS)
    victim = one.victim(1, 1)
    for project in (one, two):
        project.forget(victim)
        project.stages(*MODELS)
    assert one.models() == two.models()
    one.stages("evaluate")
    assert read_metrics(one.workspace.report("metrics.json")).mean.accuracy > 0.8


@pytest.mark.heavy
def test_twelve_shards_are_in_ten_blocks_and_a_deletion_trains_one(tmp_path: Path) -> None:
    project = make(tmp_path / "twelve", sisa__shards=12).with_git()
    stages = ["partition", "features", "schedule", *(f"train@{block}" for block in range(10)), "assemble"]
    assert project.repro("assemble") == stages
    assert sorted(path.name for path in (project.folder / "models/exports/block-1").glob("*.onnx")) == [
        "shard-1.onnx",
        "shard-11.onnx",
    ]
    stamps = {path: path.stat().st_mtime_ns for path in project.workspace.checkpoints_folder.rglob("*.safetensors")}
    project.forget(project.victim(11, 0))
    assert project.repro("assemble") == ["partition", "features", "schedule", "train@1", "assemble"]
    gone = {path.parent.name for path, stamp in stamps.items() if not path.exists() or path.stat().st_mtime_ns != stamp}
    assert gone == {"shard-11"}
    assert project.repro("assemble") == []


def test_a_kill_between_two_files_loses_nothing(frozen: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = features_of(frozen)
    for path in frozen.workspace.features_folder.iterdir():
        path.unlink()
    whole, seen = Extractor.features, []

    def killed(self: Extractor, images: Images, on_batch: Callable[[int], object]) -> Images:
        seen.append(len(images))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return whole(self, images, on_batch)

    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "features", killed)
        with pytest.raises(KeyboardInterrupt):
            frozen.stages("features")
    assert [path.name for path in frozen.workspace.features_folder.iterdir()] == ["shard-0.safetensors"]
    frozen.stages("features")
    assert features_of(frozen) == before


def test_batches_are_always_of_one_size(frozen: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that where a picture's row depends on how many are computed together, that is always as many."""
    extractor = Extractor(frozen.folder / "models/initial/pixels.onnx", 8, "cpu")
    sizes: list[int] = []

    def counted(_: object, images: Images) -> Images:
        sizes.append(len(images))
        return np.zeros((len(images), 192), np.float32)

    monkeypatch.setattr(type(extractor.backbone), "features", counted)
    extractor.features(np.zeros((2 * BATCH + 3, 8, 8, 3), np.uint8), lambda _: None)
    assert sizes == [BATCH, BATCH, BATCH]


def test_what_made_features_is_recorded(frozen: Project) -> None:
    maker = read_features(frozen.workspace.features_file(0)).maker
    assert set(Maker.model_fields) == {"backbone", "onnxruntime", "provider", "instructions"}
    assert maker.provider == "CPUExecutionProvider"
    assert all(maker.model_dump().values())


def test_fewer_blocks_move_models_and_train_nothing(frozen: Project) -> None:
    def stamps() -> dict[str, int]:
        paths = [*frozen.workspace.checkpoints_folder.rglob("*.safetensors"), *frozen.folder.rglob("exports/**/*.onnx")]
        return {path.name: path.stat().st_mtime_ns for path in paths}

    before, manifest = stamps(), frozen.manifest()
    assert len(before) == 6
    for blocks in (1, 2, 10):
        frozen.change(sisa__blocks=blocks)
        frozen.stages(*MODELS)
        assert stamps() == before
        assert frozen.manifest() == manifest
        folders = {path.parent.name for path in frozen.folder.rglob("exports/**/*.onnx")}
        assert folders == {f"block-{block}" for block in range(min(blocks, 3))}


@given(st.integers(0, 10_000), st.integers(1, BLOCKS))
def test_a_shard_is_in_exactly_one_block(shard_id: int, blocks: int) -> None:
    shards = range(shard_id + 1)
    assert [block for block in range(BLOCKS) if shard_id in shards_of(block, shards, blocks)] == [shard_id % blocks]


def test_dvc_runs_every_block() -> None:
    stage = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["train"]
    assert stage["matrix"]["block"] == list(range(BLOCKS))


@pytest.mark.heavy
def test_the_service_answers_with_backbone_and_heads(frozen: Project, tmp_path: Path) -> None:
    folder = tmp_path / "service"
    shutil.copytree(frozen.workspace.models_folder, folder / "models")
    images = load_test(frozen).images[:3]
    expected = load_ensemble(folder / "models", threads=1).shard_probabilities(images).mean(axis=0)
    with Server(folder) as service:
        service.wait(lambda: service.status("/readyz") == 200)
        with service.client() as client:
            answer = client.post("/v1/predict", json={"images": images.tolist()}).raise_for_status().json()
            described = client.get("/v1/ensemble").json()
    assert np.array([each["probabilities"] for each in answer["predictions"]]) == pytest.approx(expected, abs=1e-5)
    assert described["backbone"] == frozen.manifest()["backbone"]


def test_a_deletion_is_verified_from_the_images_on(frozen: Project) -> None:
    add(frozen.workspace, [frozen.victim(1, 0)])
    frozen.stages(*MODELS)
    found = verify(frozen.workspace)
    assert {check.name: check.outcome for check in found.checks if check.outcome != "held"} == {}
    assert found.comparison == "bits"
    assert [shard.shard for shard in found.retrained] == [0, 1, 2]


def test_rows_of_features_that_are_not_those_of_the_images_are_noticed(frozen: Project) -> None:
    """With digests and keys that fit them, as if the backbone had said so."""
    path, shard = frozen.workspace.features_file(0), frozen.shard(0)
    features = read_features(path)
    rows = features.rows()
    rows[0] += 1
    write_features(path, features.maker, shard.digests, rows)
    for block in ("schedule", "train", "assemble"):
        frozen.stages(block)
    found = verify(frozen.workspace, shards=[0])
    (wrong,) = [check for check in found.checks if check.outcome == "failed"]
    assert wrong.name == "shard 0"
    assert "does not hold what the backbone says of the images" in wrong.found
