"""Whether a file is a backbone, looked at before anything is computed with it.

A backbone is an ONNX file with one input, ``images`` uint8 (N, H, W, 3), and one output, ``features`` float32 (N, D).
N is free, H and W are free (it resizes images itself) or fixed, D is fixed. It is self-contained and uses ONNX's own
operators only.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import BackboneError
from training.files import sha256_file

LARGEST = 512 * 2**20  # bytes: every service loads it, and every export of the bento carries it
DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Description:
    """``sha256``: hex. ``features``: D. ``side``: H = W that it takes, None for any. ``notes``: of its maker."""

    sha256: str
    features: int
    side: int | None
    notes: dict[str, str]


def describe(path: Path) -> Description:
    """What a backbone is. Raises BackboneError, with what was found and what was expected, when it is not one."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        status = path.stat()
    except OSError as error:
        raise BackboneError(f"{path} cannot be read ({error.strerror}); `sisa backbone make` writes one") from error
    if not stat.S_ISREG(status.st_mode):
        raise BackboneError(f"{path} is not a regular file")
    if status.st_size > LARGEST:
        raise BackboneError(f"{path} is of {status.st_size:,} bytes; a backbone is of at most {LARGEST:,}")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise BackboneError(f"{path} is not an ONNX file ({error})") from error
    graph = proto.graph
    if any(tensor.external_data or tensor.data_location == tensor.EXTERNAL for tensor in graph.initializer):
        raise BackboneError(f"{path} keeps weights in another file; export it as one self-contained file")
    foreign = sorted({node.domain for node in graph.node} - set(DOMAINS))
    if foreign:
        raise BackboneError(f"{path} uses operators of {', '.join(foreign)}; expected ONNX's own only")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    images = _shape_of(inputs, "images", onnx.TensorProto.UINT8, f"{path} has the inputs {{}}; expected images uint8")
    features = _shape_of(
        graph.output, "features", onnx.TensorProto.FLOAT, f"{path} has the outputs {{}}; expected features float32"
    )
    if len(images) != 4 or images[0] is not None or images[3] != 3 or images[1] != images[2]:
        raise BackboneError(
            f"{path}: images are {_shape(images)}, expected (N, H, W, 3) with N free, and H and W both free, or fixed "
            "and equal"
        )
    if len(features) != 2 or features[0] is not None or not features[1]:
        raise BackboneError(f"{path}: features are {_shape(features)}, expected (N, D) with a free N and a fixed D")
    notes = {prop.key: prop.value for prop in proto.metadata_props}
    return Description(sha256_file(path), features[1], images[1], notes)


def check_size(path: Path, image_size: int) -> Description:
    """``describe``, for images of ``image_size``. Raises BackboneError as well when it takes those of another size."""
    found = describe(path)
    if found.side not in (None, image_size):
        raise BackboneError(f"{path} takes images of {found.side} × {found.side}, data.image_size is {image_size}")
    return found


def _shape_of(values: Sequence[Any], name: str, element: int, message: str) -> list[int | None]:
    """The shape of the only input or output, None where a size is free. Raises BackboneError with ``message``."""
    from onnx import TensorProto

    found = [(value.name, value.type.tensor_type.elem_type) for value in values]
    if found != [(name, element)]:
        words = [f"{each} {TensorProto.DataType.Name(kind).lower()}" for each, kind in found]
        raise BackboneError(message.format(", ".join(words) or "none"))
    dimensions = values[0].type.tensor_type.shape.dim
    return [each.dim_value if each.HasField("dim_value") else None for each in dimensions]


def _shape(shape: list[int | None]) -> str:
    return f"({', '.join('free' if size is None else str(size) for size in shape)})"
