"""A shard's ONNX file: torch's probabilities, from one graph that is exported once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from training.chain.checkpoints import Arrays
from training.chain.keys import make_recipe
from training.errors import PublishError
from training.params import load_params
from training.publish.export import Probabilities, export, export_graph, largest_difference, load_graph, load_model
from training.publish.provenance import graph_digest
from training.recipe.common.recipe import Recipe
from training.recipe.network.classifier import build_network

PARAMS = load_params(Path(__file__).parents[1] / "profiles/digits.yaml")


def recipe_of(name: str, *, classes: int = 3, normalisation: str = "imagenet", flip: bool = False) -> Recipe:
    changed = {"name": name, "normalisation": normalisation, "test_time_flip": flip}
    network = PARAMS.network.model_copy(update=changed)
    return make_recipe(PARAMS.model_copy(update={"network": network}), 0, classes, "none")


def weights_of(recipe: Recipe, seed: int = 0) -> Arrays:
    """Random weights, batch norm's statistics among them."""
    torch.manual_seed(seed)
    state = build_network(recipe.network, recipe.classes).state_dict()
    moved = {
        name: tensor + 0.1 * (torch.rand(tensor.shape) - 0.5) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    return {name: tensor.numpy() for name, tensor in moved.items()}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module", params=["resnet9", pytest.param("resnet18", marks=pytest.mark.heavy)])
def exported(request: pytest.FixtureRequest, graphs: Path) -> tuple[Probabilities, bytes]:
    recipe = recipe_of(request.param)
    weights = weights_of(recipe)
    content, difference = export(recipe, weights, graphs / f"{request.param}.onnx", {"key": "abc", "shard": "0"})
    assert difference < 1e-5
    return load_model(recipe, weights), content


def run(content: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def test_probabilities_are_torchs_softmax_taken_once(exported: tuple[Probabilities, bytes]) -> None:
    model, content = exported
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    with torch.no_grad():
        logits = model.classifier(torch.from_numpy(images)).numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = shares / shares.sum(axis=1, keepdims=True)
    assert run(content, images) == pytest.approx(expected, abs=1e-5)
    assert largest_difference(content, model, 16) < 1e-5


def test_with_a_flip_an_answer_is_the_mean_of_those_to_a_picture_and_its_mirror_image(graphs: Path) -> None:
    recipe = recipe_of("resnet9", flip=True)
    content, difference = export(recipe, weights_of(recipe), graphs / "flip.onnx", {"key": "abc"})
    assert difference < 1e-5
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    plain, _ = export(recipe_of("resnet9"), weights_of(recipe), graphs / "resnet9.onnx", {"key": "abc"})
    expected = (run(plain, images) + run(plain, images[:, :, ::-1])) / 2
    assert np.abs(run(plain, images) - expected).max() > 1e-3
    assert run(content, images) == pytest.approx(expected, abs=1e-5)
    assert run(content, images[:1]) == pytest.approx(expected[:1], abs=1e-5)


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
    recipe = recipe_of("resnet9")
    with pytest.raises(ValueError, match=r"training mode, so dropout would be exported; call eval\(\)"):
        export_graph(load_model(recipe, weights_of(recipe)).train(), 16)


def test_batch_norm_is_folded_as_torch_computes_it() -> None:
    recipe = recipe_of("resnet9")
    weights = weights_of(recipe)
    network = build_network(recipe.network, recipe.classes)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = network.eval()(images).softmax(dim=1)
        folded = load_model(recipe, weights)(images)
    assert not [module for module in load_model(recipe, weights).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert folded.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_file_is_self_contained_and_names_no_path_of_this_machine(exported: tuple[Probabilities, bytes]) -> None:
    model = onnx.load_from_string(exported[1])
    assert {prop.key: prop.value for prop in model.metadata_props} == {"key": "abc", "shard": "0"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert b"site-packages" not in exported[1]
    assert b"/training/" not in exported[1]


def test_equal_weights_give_equal_bytes_also_from_a_graph_that_was_exported_again(tmp_path: Path, graphs: Path) -> None:
    recipe = recipe_of("resnet9")
    first = export(recipe, weights_of(recipe), graphs / "resnet9.onnx", {"key": "k"})
    assert export(recipe, weights_of(recipe), graphs / "resnet9.onnx", {"key": "k"}) == first
    assert export(recipe, weights_of(recipe), tmp_path / "again.onnx", {"key": "k"}) == first
    assert export(recipe, weights_of(recipe, seed=1), graphs / "resnet9.onnx", {"key": "k"}) != first


def test_the_kept_graph_holds_no_weights(graphs: Path) -> None:
    recipe = recipe_of("resnet9")
    load_graph(recipe, graphs / "resnet9.onnx")
    assert (graphs / "resnet9.onnx").stat().st_size < 20_000  # of 1.7 MB


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_graph_is_exported_again(tmp_path: Path, graphs: Path, damage: str) -> None:
    recipe = recipe_of("resnet9")
    load_graph(recipe, graphs / "resnet9.onnx")
    sound = (graphs / "resnet9.onnx").read_bytes()
    flipped = bytearray(sound)
    flipped[len(flipped) // 2] ^= 1
    path = tmp_path / "graph"
    path.write_bytes({"empty": b"", "cut": sound[:-1], "flipped": bytes(flipped)}[damage])
    load_graph(recipe, path)
    assert path.read_bytes() == sound


def test_a_graph_has_another_name_for_anything_that_changes_it() -> None:
    digests = {
        graph_digest(recipe)
        for recipe in (
            recipe_of("resnet9"),
            recipe_of("resnet18"),
            recipe_of("resnet9", classes=4),
            recipe_of("resnet9", normalisation="half"),
            recipe_of("resnet9", flip=True),
        )
    }
    assert len(digests) == 5


def test_weights_of_another_network_are_named(graphs: Path) -> None:
    recipe = recipe_of("resnet9")
    with pytest.raises(PublishError, match="shard 0: the weights do not fit resnet9"):
        export(recipe, weights_of(recipe_of("resnet9", classes=4)), graphs / "resnet9.onnx", {})
    load_graph(recipe, graphs / "resnet9.onnx")
    other = recipe_of("resnet9", classes=4)
    with pytest.raises(PublishError, match=r"backbone\.fc\.weight is \[3, 128\], not \[4, 128\]"):
        export(other, weights_of(other), graphs / "resnet9.onnx", {})
