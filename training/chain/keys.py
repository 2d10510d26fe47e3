"""The key chain: names what a checkpoint has seen, so that nothing else can be mistaken for it.

key(-1) = H(recipe), key(r) = H(key(r-1), id and content of every sample of slice r, and its features, where training
sees those of a frozen backbone). Two checkpoints
have one key exactly if they were trained in the same way on the same samples of slices 0..r. A
checkpoint whose key is not on the chain of today's samples must not be used or kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from training.data.features import FeatureRows
from training.data.store import Shard
from training.params import Params
from training.recipe.common.recipe import Recipe
from training.syntax import folder_digest

RECIPE_FOLDER = Path(__file__).parents[1] / "recipe"
# The room of training/recipe that a network's code lies in.
ROOMS = {"resnet9": "network", "resnet18": "network", "frozen": "head"}


def make_recipe(
    params: Params, shard_id: int, classes: int, initial_weights: str, features: int | None = None
) -> Recipe:
    """The recipe of a shard by today's parameters and code.

    ``classes``: number of classes. ``initial_weights``: digest of the weights to start from, or of the backbone.
    ``features``: how many a sample has, where training sees those of a backbone.
    """
    return Recipe(
        seed=params.seed,
        shard=shard_id,
        slices=params.sisa.slices,
        classes=classes,
        image_size=params.data.image_size,
        features=features,
        network=params.network,
        initial_weights=initial_weights,
        training=params.training,
        code=todays_code(ROOMS[params.network.name]),
    )


@cache
def todays_code(room: str) -> Mapping[str, str]:
    """``recipe_code`` of the code that runs."""
    return recipe_code(RECIPE_FOLDER, room)


def recipe_code(folder: Path, room: str) -> Mapping[str, str]:
    """Digests of the code that shapes weights: what all recipes share, and the room of one kind."""
    return {name: folder_digest(folder / name) for name in ("common", room)}


def key_chain(recipe: str, shard: Shard, slices: int, features: FeatureRows | None = None) -> list[str]:
    """Keys of slices 0..``slices``-1: each covers every sample, to the last, of its slice and all before.

    ``features``: of the samples, where training sees those in place of images.
    """
    by_slice: list[list[bytes]] = [[] for _ in range(slices)]
    for number, (slice_id, digest) in enumerate(zip(shard.slices.tolist(), sample_digests(shard), strict=True)):
        by_slice[slice_id].append(digest if features is None else digest + features.digests[number])
    keys, key = [], recipe
    for digests in by_slice:
        key = hashlib.sha256(b"".join([key.encode(), *digests])).hexdigest()
        keys.append(key)
    return keys


def sample_digests(shard: Shard) -> Iterable[bytes]:
    """SHA-256 of id, label and the digest of the pixels, 32 bytes a sample.

    Of fixed length, so that no two samples can run into each other.
    """
    for sample_id, label, digest in zip(shard.ids, shard.labels.tolist(), shard.digests, strict=True):
        yield hashlib.sha256(f"{sample_id}\0{label}\0".encode() + digest).digest()
