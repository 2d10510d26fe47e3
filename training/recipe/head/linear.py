"""A head as a network of one layer, for SGD on features."""

from __future__ import annotations

import torch
from torch import nn

from training.recipe.common.recipe import Recipe


def initial_head(recipe: Recipe, width: int) -> nn.Module:
    """(N, ``width``) features to (N, C) logits; its weights are random by seed and shard."""
    torch.manual_seed(recipe.seed_for(-1, "initialisation"))
    return nn.Linear(width, recipe.classes)
