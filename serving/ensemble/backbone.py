"""A frozen backbone: the one network that turns images into the features which every shard's head takes.

Letters: N images, H and W their height and width, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.ensemble.manifest import EnsembleUnavailable

SMALLEST_PART = 4  # images a thread computes at a time: fewer cost more to hand over than they save
LARGEST_PART = 32  # and more would only need more memory

Features = NDArray[np.float32]


class Backbone:
    """``width``: D. ``image_shape``: (H, W) that it takes, None for any: it resizes them itself.

    The session has one thread; parts of a batch are computed side by side in ``pool``, of ``threads`` threads. On a
    CPU an image's features do not depend on the images beside it, to the last bit.
    """

    def __init__(self, session: onnxruntime.InferenceSession, pool: Executor, threads: int) -> None:
        self.session = session
        self._pool, self._threads = pool, threads
        (features,) = session.get_outputs()
        self.width: int = features.shape[1]

    def features(self, images: NDArray[np.uint8]) -> Features:
        """(N, H, W, 3) uint8 to (N, D), N > 0, rounded to half precision; infinite above 65,504."""
        size = min(LARGEST_PART, max(SMALLEST_PART, -(-len(images) // self._threads)))
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate(list(self._pool.map(self._run, parts)))

    def _run(self, images: NDArray[np.uint8]) -> Features:
        features: Features = self.session.run(["features"], {"images": images})[0]
        return features.astype(np.float16).astype(np.float32)  # as training keeps them


def check_backbone(session: onnxruntime.InferenceSession, image_shape: Sequence[int], name: str) -> None:
    """Raise EnsembleUnavailable unless it takes uint8 images of ``image_shape`` and answers float features (N, D)."""
    inputs = [(value.name, value.type, value.shape) for value in session.get_inputs()]
    outputs = [(value.name, value.type, value.shape) for value in session.get_outputs()]
    if [value[:2] for value in inputs] != [("images", "tensor(uint8)")] or not _fits(inputs[0][2], image_shape):
        raise EnsembleUnavailable(
            f"{name} takes {inputs}, expected images: uint8 (N, {', '.join(map(str, image_shape))}), N of any size"
        )
    if (
        [value[:2] for value in outputs] != [("features", "tensor(float)")]
        or len(outputs[0][2]) != 2
        or not isinstance(outputs[0][2][1], int)
    ):
        raise EnsembleUnavailable(f"{name} answers {outputs}, expected features: float (N, D), D a number")


def _fits(shape: Sequence[object], image_shape: Sequence[int]) -> bool:
    """Whether a session's input takes any number of such images: a size that is no number is any."""
    if len(shape) != 4 or isinstance(shape[0], int):
        return False
    return all(
        not isinstance(found, int) or found == wanted for found, wanted in zip(shape[1:], image_shape, strict=True)
    )
