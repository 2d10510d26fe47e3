"""Where a shard's training starts: the initial network, random or with given weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.errors import TrainingError
from training.recipe.common.recipe import Recipe
from training.recipe.network.classifier import Classifier, build_network

HEAD = "fc."  # the layer that has the classes' number of outputs, in every network


def initial_network(recipe: Recipe, weights: Path | None) -> Classifier:
    """The untrained network of a shard: random by seed and shard, or ``weights`` with a random head.

    Raises TrainingError when the given weights cannot be read or do not fit.
    """
    torch.manual_seed(recipe.seed_for(-1, "initialisation"))
    classifier = build_network(recipe.network, recipe.classes)
    if weights is not None:
        take_over(classifier, read_weights(weights), recipe.network.name)
    return classifier


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file or a torch pickle (tensors only, no code is run).

    Raises TrainingError when it is neither.
    """
    from safetensors.torch import load_file

    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # each reader raises its own kinds for a damaged file
        raise TrainingError(f"network.weights: {path} is not a readable state dict ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainingError(f"network.weights: {path} holds no plain state dict (name to tensor)")
    return state


def take_over(classifier: Classifier, weights: dict[str, Tensor], name: str) -> None:
    """Take over all weights but the head's, which stays random: it has its own shape and classes.

    Raises TrainingError when the rest does not fit.
    """
    body = {key: value for key, value in weights.items() if not key.startswith(HEAD)}
    try:
        missing, unexpected = classifier.backbone.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise TrainingError(f"network.weights do not fit {name}: {error}") from error
    missing = [key for key in missing if not key.startswith(HEAD)]
    if missing or unexpected:
        raise TrainingError(f"network.weights do not fit {name}: missing {missing}, unexpected {unexpected}")
