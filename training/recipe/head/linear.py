"""A head as a network of one layer, for SGD on features."""

from __future__ import annotations

import torch
from torch import nn

from training.recipe.common.recipe import Recipe


def initial_head(recipe: Recipe) -> nn.Module:
    """(N, D) features to (N, C) logits; its weights are random by seed and shard."""
    assert recipe.features is not None
    torch.manual_seed(recipe.seed_for(-1, "initialisation"))
    return nn.Linear(recipe.features, recipe.classes)
