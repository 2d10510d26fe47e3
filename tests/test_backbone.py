"""Backbones: made, checked at the door, and computing each picture for itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from backbones import colours, model, pixels, write
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import training.backbone.extract
from serving.ensemble.backbone import Backbone
from training.backbone.check import check_size, describe
from training.backbone.efficientnet_lite0 import STAGES, EfficientNetLite0, packaged_weights
from training.backbone.make import make_backbone
from training.errors import BackboneError


@pytest.fixture(scope="session")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "lite0.onnx"
    make_backbone("efficientnet-lite0", path, side=64)
    return path


def opened(path: Path, threads: int = 2) -> Backbone:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Backbone(session, ThreadPoolExecutor(threads), threads)


# What a backbone is.


def test_a_backbone_is_described(tmp_path: Path) -> None:
    found = describe(write(tmp_path / "any.onnx", colours()))
    assert (found.features, found.side) == (3, None)
    fixed = write(tmp_path / "fixed.onnx", pixels(16))
    assert (describe(fixed).features, describe(fixed).side) == (768, 16)
    check_size(fixed, 16)
    with pytest.raises(BackboneError, match=r"takes images of 16 × 16, data\.image_size is 32"):
        check_size(fixed, 32)


def external(proto: onnx.ModelProto) -> onnx.ModelProto:
    (tensor,) = (each for each in proto.graph.initializer if each.name == "white")
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    return proto


def renamed(proto: onnx.ModelProto) -> onnx.ModelProto:
    proto.graph.input[0].name = "pictures"
    return proto


def doubled(proto: onnx.ModelProto) -> onnx.ModelProto:
    proto.graph.output.append(helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["N", 16, 16, 3]))
    return proto


def foreign(proto: onnx.ModelProto) -> onnx.ModelProto:
    proto.graph.node[0].domain = "com.example"
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (lambda: external(pixels(16)), "keeps weights in another file"),
        (lambda: renamed(pixels(16)), r"has the inputs pictures uint8; expected images uint8"),
        (lambda: doubled(pixels(16)), r"has the outputs features float, shares float; expected features float32"),
        (lambda: foreign(pixels(16)), r"uses operators of com\.example"),
        (lambda: model([], [16, 16], 768, [], images=TensorProto.FLOAT), "has the inputs images float"),
        (lambda: model([], [16, 8], 384, []), r"images are \(free, 16, 8, 3\), expected"),
        (lambda: model([], [16, 16], "D", []), r"features are \(free, free\), expected"),
    ],
    ids=["external", "input", "outputs", "operators", "type", "not-square", "width"],
)
def test_what_is_not_a_backbone_is_refused(proto: Callable[[], onnx.ModelProto], message: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=message):
        describe(write(tmp_path / "wrong.onnx", proto()))


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="cannot be read"):
        describe(tmp_path / "none.onnx")
    with pytest.raises(BackboneError, match="is not a regular file"):
        describe(tmp_path)
    (tmp_path / "text.onnx").write_bytes(b"\xff not a model")
    with pytest.raises(BackboneError, match="is not an ONNX file"):
        describe(tmp_path / "text.onnx")


# Making one.


def test_efficientnet_lite0_is_made_and_says_of_what(lite0: Path) -> None:
    found = describe(lite0)
    assert (found.features, found.side) == (1280 + 320 + 192 + 112, None)
    assert (found.notes["made of"], found.notes["side"]) == ("efficientnet-lite0", "64")
    assert found.notes["licence"].startswith("Apache-2.0")


@pytest.mark.heavy
def test_the_same_weights_give_the_same_bytes(lite0: Path, tmp_path: Path) -> None:
    make_backbone("efficientnet-lite0", tmp_path / "again.onnx", side=64)
    assert (tmp_path / "again.onnx").read_bytes() == lite0.read_bytes()


def test_imagenet_weights_know_a_picture_under_another_light(lite0: Path) -> None:
    """A crude picture's features stay near when it gets darker, and far from another picture's: weights are right."""
    side = np.arange(64)
    disc = ((side[:, None] - 32) ** 2 + (side[None] - 32) ** 2 < 400)[..., None] * np.array([230, 120, 40])
    stripes = (side[:, None] % 8 < 4)[..., None] * np.full((64, 64, 3), 200)
    images = np.stack([disc, disc * 0.8, stripes]).astype(np.uint8)
    features = opened(lite0).features(images)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert features[0] @ features[1] > 0.9
    assert features[0] @ features[2] < 0.7


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(BackboneError, match="is not a state dict of this network"):
        make_backbone("efficientnet-lite0", tmp_path / "x.onnx", weights=tmp_path / "other.pt")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("name", ["vgg", "torchvision/", "torchvision/resnet1", "caffe/x"])
def test_a_name_that_means_nothing_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"there is no backbone|torchvision has no classifier"):
        make_backbone(name, tmp_path / "x.onnx")


@pytest.mark.heavy
def test_a_torchvision_network_is_made_of_a_state_dict(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pt")
    made = make_backbone("torchvision/resnet18", tmp_path / "r.onnx", side=64, weights=tmp_path / "resnet18.pt")
    assert (made.side, describe(tmp_path / "r.onnx").features) == (64, 512)


def test_the_package_has_the_whole_network() -> None:
    state = torch.load(packaged_weights(), weights_only=True)
    names = {name for name in state if not name.startswith("_fc.")}
    assert names == set(EfficientNetLite0().state_dict())
    assert sum(count for count, *_ in STAGES) == 16


# A picture's features are its own.


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(33)), st.sampled_from([1, 2, 3, 7, 16, 32, 33]), st.sampled_from([1, 2, 3]))
def test_neighbours_order_and_threads_change_no_bit(lite0: Path, order: list[int], size: int, threads: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3), np.uint8)
    expected = np.concatenate([opened(lite0, 1).features(images[row : row + 1]) for row in order[:size]])
    assert opened(lite0, threads).features(images[order[:size]]).tobytes() == expected.tobytes()


def test_rows_of_another_gpu_are_of_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.backbone.extract, "GPUS", tmp_path)
    (tmp_path / "0000:05:00.0").mkdir()
    information = tmp_path / "0000:05:00.0/information"
    made = []
    for name in ("NVIDIA H100 80GB HBM3", "NVIDIA H200"):
        information.write_text(f"Model: \t\t {name}\nIRQ:   \t\t 39\nGPU UUID: \t GPU-60e52477\n")
        made.append(training.backbone.extract.maker("0" * 64, "CUDAExecutionProvider"))
        assert made[-1].instructions.endswith(name)
        assert name not in training.backbone.extract.maker("0" * 64, "CPUExecutionProvider").instructions
    assert made[0] != made[1]
