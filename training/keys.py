"""The key chain: names what a checkpoint has seen, so that nothing else can be mistaken for it.

key(-1) = H(recipe), key(r) = H(key(r-1), id and content of every sample of slice r). Two checkpoints
have one key exactly if they were trained in the same way on the same samples of slices 0..r. A
checkpoint whose key is not on the chain of today's samples must not be used or kept.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from training.code import code_digest
from training.params import Params
from training.shards import Shard

# The code that shapes weights.
RECIPE_CODE = tuple(Path(__file__).with_name(name) for name in ("network.py", "loop.py", "start.py"))


def recipe_key(params: Params, shard_id: int, classes: int, initial_weights: str) -> str:
    """Hex SHA-256 of everything beside the samples that shapes a shard's weights.

    ``classes``: number of classes. ``initial_weights``: digest of the weights to start from. The
    device is left out on purpose, as are versions: they are recorded in each checkpoint instead.
    """
    recipe = {
        "shard": shard_id,
        "seed": params.seed,
        "classes": classes,
        "image_size": params.data.image_size,
        "slices": params.sisa.slices,
        "network": params.network.name,
        "initial_weights": initial_weights,
        "training": params.training.model_dump(),
        "code": [code_digest(path.read_text(encoding="utf-8")) for path in RECIPE_CODE],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def key_chain(recipe: str, shard: Shard, slices: int) -> list[str]:
    """Keys of slices 0..``slices``-1: each covers every sample, to the last, of its slice and all before."""
    keys, key = [], recipe
    for slice_id in range(slices):
        digest = hashlib.sha256(key.encode())
        for row in (shard.slices == slice_id).nonzero()[0]:
            digest.update(_sample_digest(shard, int(row)))
        key = digest.hexdigest()
        keys.append(key)
    return keys


def _sample_digest(shard: Shard, row: int) -> bytes:
    """SHA-256 of id, label and pixels; fixed length, so that no two samples can run into each other."""
    head = f"{shard.ids[row]}\0{shard.labels[row]}\0".encode()
    return hashlib.sha256(head + shard.images[row].tobytes()).digest()
