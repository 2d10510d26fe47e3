import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from training.export import Probabilities, export, largest_difference
from training.network import build_network


def model_of(name: str) -> Probabilities:
    torch.manual_seed(0)
    return Probabilities(build_network(name, 3)).eval()


@pytest.fixture(scope="module", params=["resnet9", "resnet18"])
def exported(request: pytest.FixtureRequest) -> tuple[Probabilities, bytes]:
    model = model_of(request.param)
    return model, export(model, 16, {"key": "abc", "shard": "0"})


def run(content: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def test_probabilities_are_torchs_softmax_taken_once(exported: tuple[Probabilities, bytes]) -> None:
    model, content = exported
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    with torch.no_grad():
        logits = model.classifier(torch.from_numpy(images)).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert run(content, images) == pytest.approx(expected, abs=1e-5)
    assert largest_difference(content, model, 16) < 1e-5


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_pictures_is_taken_and_each_is_judged_alone(
    exported: tuple[Probabilities, bytes], count: int
) -> None:
    images = np.random.default_rng(2).integers(0, 256, (count, 16, 16, 3), np.uint8)
    together = run(exported[1], images)
    assert together.shape == (count, 3)
    assert together == pytest.approx(np.concatenate([run(exported[1], image[None]) for image in images]), abs=1e-6)


def test_dropout_is_off_so_an_answer_never_varies(exported: tuple[Probabilities, bytes]) -> None:
    image = np.full((1, 16, 16, 3), 90, np.uint8)
    assert (run(exported[1], image) == run(exported[1], image)).all()
    assert not [node for node in onnx.load_from_string(exported[1]).graph.node if "Dropout" in node.op_type]


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training mode; call eval\(\) first"):
        export(model_of("resnet9").train(), 16, {})


def test_the_file_is_self_contained_and_names_no_path_of_this_machine(exported: tuple[Probabilities, bytes]) -> None:
    model = onnx.load_from_string(exported[1])
    assert {prop.key: prop.value for prop in model.metadata_props} == {"key": "abc", "shard": "0"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert b"site-packages" not in exported[1]
    assert b"/training/" not in exported[1]


def test_equal_weights_give_equal_bytes() -> None:
    assert export(model_of("resnet9"), 8, {"key": "k"}) == export(model_of("resnet9"), 8, {"key": "k"})
