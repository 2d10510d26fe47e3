"""Heads of a frozen backbone: one linear layer a shard, computed together as one matrix.

Letters: S shards, N images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.ensemble.aggregation import Floats


@dataclass(frozen=True)
class Head:
    """``weight``: (D, C), ``bias``: (C,): to features f a shard answers the softmax of ``f @ weight + bias``."""

    weight: Floats
    bias: Floats


def read_head(session: onnxruntime.InferenceSession) -> Head:
    """A head's weights, which its file gives as outputs beside the probabilities."""
    width = session.get_inputs()[0].shape[1]
    weight, bias = session.run(["weight", "bias"], {"features": np.zeros((1, width), np.float32)})
    return Head(weight, bias)


class Heads:
    """All heads of an ensemble as one matrix: S small products cost more to start than to compute."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._shards = len(heads)
        self._weight = np.concatenate([head.weight for head in heads], axis=1)  # (D, S · C)
        self._bias = np.concatenate([head.bias for head in heads])

    def probabilities(self, features: NDArray[np.float32]) -> Floats:
        """(N, D) to (S, N, C), rows adding up to 1."""
        logits = (features @ self._weight + self._bias).reshape(len(features), self._shards, -1)
        logits -= logits.max(axis=2, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=2, keepdims=True)
        return np.ascontiguousarray(logits.transpose(1, 0, 2))
