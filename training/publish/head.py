"""A head on a frozen backbone as an ONNX file, checked against the same computed in float64.

Input ``features``: (N, D) float32. Outputs: ``probabilities`` (N, C) float32, rows adding up to 1; ``weight`` (D, C)
and ``bias`` (C,) as they are, so that a service can compute all heads as one matrix (serving/ensemble/heads.py).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from training.chain.checkpoints import Arrays
from training.errors import PublishError
from training.learning import Sgd
from training.recipe.common.recipe import Recipe

TOLERANCE = 1e-4  # largest difference allowed in a probability
CHECKED = 32  # rows of noise on which both are compared
OPSET, IR_VERSION = 20, 10


def export_head(recipe: Recipe, weights: Arrays, provenance: dict[str, str]) -> tuple[bytes, float]:
    """ONNX bytes that depend on recipe, weights and ``provenance`` alone, and their largest difference from float64.

    Raises PublishError when the weights are not those of such a head, or differ by ``TOLERANCE`` or more.
    """
    shapes = {name: array.shape for name, array in weights.items()}
    weight, bias = weights.get("weight", np.empty(0)), weights.get("bias", np.empty(0))
    if isinstance(recipe.training, Sgd):
        weight = weight.T  # torch has a row for each class
    if weight.shape != (recipe.features, recipe.classes) or bias.shape != (recipe.classes,) or len(weights) != 2:
        raise PublishError(
            f"shard {recipe.shard}: {shapes} are not the weights of a head from {recipe.features} features to "
            f"{recipe.classes} classes"
        )
    proto = head_graph(np.ascontiguousarray(weight, np.float32), np.asarray(bias, np.float32))
    helper.set_model_props(proto, dict(sorted(provenance.items())))
    content: bytes = proto.SerializeToString(deterministic=True)
    difference = largest_difference(content, weight, bias)
    if not difference < TOLERANCE:
        raise PublishError(
            f"shard {recipe.shard}: the ONNX head's probabilities differ from those in float64 by {difference:.2e}, "
            f"allowed is {TOLERANCE}; nothing was written"
        )
    return content, difference


def head_graph(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """(D, C) and (C,) as a graph."""
    width, classes = weight.shape
    nodes = [
        helper.make_node("MatMul", ["features", "W"], ["scores"]),
        helper.make_node("Add", ["scores", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["W"], ["weight"]),
        helper.make_node("Identity", ["b"], ["bias"]),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, [width, classes]),
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, [classes]),
        ],
        [numpy_helper.from_array(weight, "W"), numpy_helper.from_array(bias, "b")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def largest_difference(content: bytes, weight: np.ndarray, bias: np.ndarray) -> float:
    """Largest |Δ probability| between onnxruntime and float64 over rows of noise."""
    rows = np.random.default_rng(0).standard_normal((CHECKED, len(weight)), np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (ours,) = session.run(["probabilities"], {"features": rows})
    logits = rows.astype(np.float64) @ weight.astype(np.float64) + bias
    exact = np.exp(logits - logits.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    return float(np.abs(np.asarray(ours) - exact).max())
