"""The recipe of a shard: everything beside its samples that shapes its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from training.learning import AnyNetwork, Training
from training.recipe.common.keyed_hash import keyed_hash


class Recipe(BaseModel):
    """What a shard is trained with; its key is what the shard's key chain begins with.

    ``initial_weights``: hex SHA-256 of the weights to start from, or of the frozen backbone; ``none`` for random ones.
    ``features``: how many a sample has, where the model takes those of a backbone in place of images. ``code``:
    digests of the folders of ``training/recipe/`` that are run. The device and the versions of
    packages are left out on purpose: each checkpoint records them instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    shard: int
    slices: int
    classes: int
    image_size: int
    features: int | None
    network: AnyNetwork
    initial_weights: str
    training: Training
    code: Mapping[str, str]

    @property
    def key(self) -> str:
        """Hex SHA-256 of all of it that shapes weights."""
        shaping = self.model_dump(exclude={"network": {"test_time_flip"}})
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()

    def seed_for(self, slice_id: int, purpose: str) -> int:
        """A seed in [0, 2**63) for one purpose in one slice; ``slice_id`` -1 is the initialisation."""
        return int.from_bytes(keyed_hash(self.seed, f"training {purpose}", f"{self.shard} {slice_id}")[:8]) >> 1
