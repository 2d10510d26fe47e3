"""Where a shard's training starts: the device, set to repeat its bits, and the initial network.

The syntax tree of this file is part of every model's key: changing code here retrains all shards.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from training.initial_weights import initial_weights_file
from training.loop import seed_for
from training.network import Classifier, build_network
from training.params import Network
from training.stage import StageError

HEAD = "fc."  # the layer that has the classes' number of outputs, in every network


def choose_device(name: str) -> torch.device:
    """The device to train on, set to compute the same bits again on the same machine and versions.

    Raises StageError when it is ``cuda`` and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise StageError("device is cuda, but torch finds no CUDA device; use auto or cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    # Not the debugging aid that comes with it and costs a twentieth of the speed.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Full fp32 where fp32 is asked for: no TF32 on CUDA.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def initial_network(network: Network, classes: int, seed: int, shard_id: int) -> Classifier:
    """The untrained network of a shard: random by (seed, shard), or given weights with a random head.

    Raises StageError when the given weights cannot be had or do not fit.
    """
    torch.manual_seed(seed_for(seed, shard_id, -1, "initialisation"))
    classifier = build_network(network.name, classes)
    path = initial_weights_file(network)
    if path is not None:
        take_over(classifier, read_weights(path), network.name)
    return classifier


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file or a torch pickle (tensors only, no code is run).

    Raises StageError when it is neither.
    """
    from safetensors.torch import load_file

    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # each reader raises its own kinds for a damaged file
        raise StageError(f"network.weights: {path} is not a readable state dict ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise StageError(f"network.weights: {path} holds no plain state dict (name to tensor)")
    return state


def take_over(classifier: Classifier, weights: dict[str, Tensor], name: str) -> None:
    """Take over all weights but the head's, which stays random: it has its own shape and classes.

    Raises StageError when the rest does not fit.
    """
    body = {key: value for key, value in weights.items() if not key.startswith(HEAD)}
    try:
        missing, unexpected = classifier.backbone.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise StageError(f"network.weights do not fit {name}: {error}") from error
    missing = [key for key in missing if not key.startswith(HEAD)]
    if missing or unexpected:
        raise StageError(f"network.weights do not fit {name}: missing {missing}, unexpected {unexpected}")
