"""A shard's last checkpoint as one self-contained ONNX file, checked against torch.

Input ``images``: (N, H, W, 3) uint8. Output ``probabilities``: (N, C) float32, rows adding up to 1.
Normalisation and softmax are inside, so that nothing can do them differently in serving.

torch takes seconds to export a network, and nearly all of that is the same for every shard: only
weights differ. So a network's graph is exported once, without its weights, and kept in
``models/graphs/``; a shard's weights are put into it.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from training.chain.checkpoints import Arrays
from training.errors import PublishError
from training.files import write_atomic
from training.learning import trained_network
from training.recipe.common.recipe import Recipe
from training.recipe.network.classifier import Classifier, build_network

TOLERANCE = 1e-4  # largest difference allowed in a probability
CHECKED = 32  # images of noise on which ONNX and torch are compared


class Probabilities(nn.Module):
    """(N, H, W, 3) uint8 to (N, C) float32 probabilities, batch normalisation folded into the convolutions.

    ``flip``: the mean of those of the images and of their mirror images.
    """

    def __init__(self, classifier: nn.Module, *, flip: bool) -> None:
        super().__init__()
        self.classifier, self.flip = classifier, flip

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(torch.cat([images, images.flip(2)]) if self.flip else images)
        probabilities = logits.softmax(dim=1)
        return probabilities.view(2, -1, logits.shape[1]).mean(dim=0) if self.flip else probabilities


def export(recipe: Recipe, weights: Arrays, graph_file: Path, provenance: dict[str, str]) -> tuple[bytes, float]:
    """ONNX bytes that depend on recipe, weights and ``provenance`` alone, and their largest difference from torch.

    ``graph_file``: where the network's graph is kept. Raises PublishError when the weights are of
    another network, or when the probabilities differ from torch's by ``TOLERANCE`` or more.
    """
    model = load_model(recipe, weights)
    proto = load_graph(recipe, graph_file)
    put_weights(proto, model)
    onnx.helper.set_model_props(proto, dict(sorted(provenance.items())))
    content: bytes = proto.SerializeToString(deterministic=True)
    difference = largest_difference(content, model, recipe.image_size)
    if not difference < TOLERANCE:
        raise PublishError(
            f"shard {recipe.shard}: the ONNX model's probabilities differ from torch's by {difference:.2e}, "
            f"allowed is {TOLERANCE}; nothing was written"
        )
    return content, difference


def load_model(recipe: Recipe, weights: Arrays) -> Probabilities:
    """The trained network in eval mode. Raises PublishError when the weights are of another one."""
    network = build_network(recipe.network, recipe.classes)
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except RuntimeError as error:
        raise PublishError(f"shard {recipe.shard}: the weights do not fit {recipe.network.name}: {error}") from error
    return fold(network, recipe)


def fold(network: Classifier, recipe: Recipe) -> Probabilities:
    """In eval mode, without batch normalisation: a running service need not compute it."""
    return Probabilities(fuse(network.eval()), flip=trained_network(recipe.network).test_time_flip).eval()


def load_graph(recipe: Recipe, path: Path) -> onnx.ModelProto:
    """The network's graph without weights, from ``path``, where it is kept once it has been exported.

    The file begins with the SHA-256 of the rest: one that is damaged is exported again.
    """
    kept = path.read_bytes() if path.is_file() else b""
    digest, content = kept[:32], kept[32:]
    if digest != hashlib.sha256(content).digest():
        content = make_graph(recipe).SerializeToString(deterministic=True)
        write_atomic(path, hashlib.sha256(content).digest() + content)
    return onnx.load_from_string(content)


def make_graph(recipe: Recipe) -> onnx.ModelProto:
    """Export the network's graph, which takes seconds."""
    model = fold(build_network(recipe.network, recipe.classes), recipe)
    # Numbers without a pattern: the exporter would drop a bias of zeros and merge tensors that are equal.
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return export_graph(model, recipe.image_size)


def export_graph(model: Probabilities, image_size: int) -> onnx.ModelProto:
    """What torch exports, without the weights. Raises ValueError when the model is in training mode."""
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training mode, so dropout would be exported; call eval() first")
    example = torch.zeros((2, image_size, image_size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    strip(proto)
    weights = model.state_dict()
    for initializer in proto.graph.initializer:
        if initializer.name in weights:
            initializer.ClearField("raw_data")
    return proto


def strip(proto: onnx.ModelProto) -> None:
    """Remove notes that hold stack traces with absolute paths: other folders would give other bytes."""
    graph = proto.graph
    del proto.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *proto.functions):
        del part.metadata_props[:]
        part.doc_string = ""


def put_weights(proto: onnx.ModelProto, model: Probabilities) -> None:
    """Fill the graph's initializers. Raises PublishError unless every weight of the model has its place."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for initializer in proto.graph.initializer:
        array = weights.pop(initializer.name, None)
        if array is None:
            continue  # a constant of the graph
        filled = onnx.numpy_helper.from_array(array, initializer.name)
        if (filled.data_type, list(filled.dims)) != (initializer.data_type, list(initializer.dims)):
            raise PublishError(f"the graph's {initializer.name} is {list(initializer.dims)}, not {list(filled.dims)}")
        initializer.raw_data = filled.raw_data
    if weights:
        raise PublishError(f"the network's graph has no place for {', '.join(sorted(weights))}")


def largest_difference(content: bytes, model: nn.Module, image_size: int) -> float:
    """Largest |Δ probability| between onnxruntime and torch over images of noise and of flat grey."""
    images = noise(image_size)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"images": images})
    with torch.no_grad():
        theirs = model(torch.from_numpy(images)).numpy()
    return float(np.abs(np.asarray(ours) - theirs).max())


def noise(image_size: int) -> NDArray[np.uint8]:
    """(32, H, H, 3) images: 31 of noise, one of flat grey."""
    images = np.random.default_rng(0).integers(0, 256, (CHECKED, image_size, image_size, 3), np.uint8)
    images[-1] = 128
    return images
