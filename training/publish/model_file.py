"""A shard's weights as one self-contained ONNX file."""

from __future__ import annotations

from training.chain.checkpoints import Arrays
from training.learning import FrozenNetwork
from training.publish.provenance import graph_digest
from training.recipe.common.recipe import Recipe
from training.workspace import Workspace


def make_model(
    workspace: Workspace, recipe: Recipe, weights: Arrays, provenance: dict[str, str]
) -> tuple[bytes, float]:
    """Bytes that depend on recipe, weights and ``provenance`` alone, and how far their probabilities differ, at most,
    from what they should be.

    Raises PublishError when the weights are of another network, or the difference is too large.
    """
    if isinstance(recipe.network, FrozenNetwork):
        from training.publish.head import export_head

        return export_head(recipe, weights, provenance)
    from training.publish.export import export  # torch takes seconds to import

    return export(recipe, weights, workspace.graphs_folder / graph_digest(recipe)[:16], provenance)
