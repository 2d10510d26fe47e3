"""Backbones small enough to do by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FROZEN: dict[str, Any] = {
    "network": {"name": "frozen", "backbone": "models/initial/pixels.onnx"},
    "training": {"method": "ridge", "l2": 0.5, "threads": 1},
    "sisa__slices": 1,
}  # parameters for `Project.create`


def pixels(side: int) -> onnx.ModelProto:
    """(N, side, side, 3) to its pixels in [0, 1], (N, 3 · side²)."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["shares"]),
        helper.make_node("Flatten", ["shares"], ["features"], axis=1),
    ]
    return model(nodes, [side, side], 3 * side * side, [numpy_helper.from_array(np.array(255, np.float32), "white")])


def colours() -> onnx.ModelProto:
    """(N, H, W, 3) of any size to the mean of each channel in [0, 1], (N, 3)."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["shares"]),
        helper.make_node("ReduceMean", ["shares", "axes"], ["features"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.array(255, np.float32), "white"),
        numpy_helper.from_array(np.array([1, 2]), "axes"),
    ]
    return model(nodes, ["H", "W"], 3, constants)


def model(
    nodes: list[Any], size: list[Any], width: Any, constants: list[Any], images: int = TensorProto.UINT8
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", images, ["N", *size, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write(path: Path, proto: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    return path
