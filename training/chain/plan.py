"""The plan of a shard, ``models/plan/shard-K.json``: which checkpoints today's samples call for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from training.blocks import standing
from training.chain.checkpoints import stale_slices
from training.chain.keys import key_chain, make_recipe, sample_digests
from training.chain.merkle import merkle_root
from training.data.features import FeatureRows
from training.data.placement import assign_slots, placement_key
from training.data.store import Shard
from training.errors import DamagedError, StalePlanError
from training.params import Params
from training.recipe.common.recipe import Recipe
from training.workspace import Workspace


class ShardPlan(BaseModel):
    """``keys[r]``: key of slice r. ``samples[r]``: retained in slice r. ``merkle_root``: over its samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    keys: tuple[str, ...]
    samples: tuple[int, ...]
    merkle_root: str

    @property
    def shard(self) -> int:
        return self.recipe.shard

    @property
    def retained(self) -> int:
        return sum(self.samples)

    @property
    def abstains(self) -> bool:
        """True when all samples of the shard are forgotten: it then has no model."""
        return self.retained == 0

    def sample_epochs(self, slice_ids: Iterable[int]) -> int:
        """Cost of training these slices: images passed through the network, slice by slice.

        Slice r trains ``epochs_per_slice`` times on the union of slices 0..r (Bourtoule et al.,
        2021, section V).
        """
        epochs = self.recipe.training.epochs_per_slice
        return epochs * sum(sum(self.samples[: slice_id + 1]) for slice_id in slice_ids)

    @property
    def full_sample_epochs(self) -> int:
        """Cost of training every slice."""
        return self.sample_epochs(range(len(self.keys)))


def make_plan(
    params: Params,
    shard_id: int,
    classes: int,
    initial_weights: str,
    shard: Shard,
    *,
    features: FeatureRows | None = None,
) -> ShardPlan:
    """A function of what it names: parameters, the recipe's code, initial weights and the shard's samples.

    ``features``: of the samples, where training sees those in place of images. Raises StalePlanError when the
    samples are not those that the parameters would place in this shard.
    """
    check_placement(params, shard_id, classes, shard)
    return plan_samples(params, shard_id, classes, initial_weights, shard, features=features)


def plan_samples(
    params: Params,
    shard_id: int,
    classes: int,
    initial_weights: str,
    shard: Shard,
    *,
    features: FeatureRows | None = None,
) -> ShardPlan:
    """``make_plan`` of samples that are known to lie where the parameters place them; their images are not needed."""
    recipe = make_recipe(params, shard_id, classes, initial_weights, None if features is None else features.width)
    return ShardPlan(
        recipe=recipe,
        keys=tuple(key_chain(recipe.key, shard, params.sisa.slices, features)),
        samples=tuple(np.bincount(shard.slices, minlength=params.sisa.slices).tolist()),
        merkle_root=merkle_root(sample_digests(shard)),
    )


def check_placement(params: Params, shard_id: int, classes: int, shard: Shard) -> None:
    """Raise StalePlanError unless a shard file could have been written with these parameters.

    Where subjects are known their samples' slots cannot be told from the file, which does not name them: it may be
    pushed to a remote. The stage schedule asks the partition's summary as well. Raises ParamsError when the placement
    key is another one.
    """
    key = placement_key(params.data.placement_key_digest)
    side, slices, labels = shard.images.shape[1], shard.slices, shard.labels
    if (
        side != params.data.image_size
        or (np.diff(slices) < 0).any()
        or not ((slices >= 0) & (slices < params.sisa.slices)).all()
        or not ((labels >= 0) & (labels < classes)).all()
        or (params.data.subjects == "none" and not lies_in(params, shard_id, shard, key))
    ):
        raise StalePlanError(f"{shard.path} was not written for shard {shard_id} with these parameters")


def lies_in(params: Params, shard_id: int, shard: Shard, key: bytes | None) -> bool:
    """Whether every sample's id places it where it is."""
    slots = assign_slots(shard.ids, len(params.sisa.shards), params.sisa.slices, params.seed, key)
    return slots == [(shard_id, slice_id) for slice_id in shard.slices.tolist()]


def check_plan(
    plan: ShardPlan, params: Params, initial_weights: str, shard: Shard, features: FeatureRows | None = None
) -> None:
    """Raise StalePlanError when a plan was made for other parameters, code, weights, samples or features than these."""
    now = make_plan(params, plan.shard, plan.recipe.classes, initial_weights, shard, features=features)
    if now.recipe != plan.recipe:
        raise StalePlanError(f"the plan of shard {plan.shard} was made for other parameters, code or initial weights")
    if now != plan:
        raise StalePlanError(f"the plan of shard {plan.shard} was made for other samples than {shard.path} holds")


def retrained(workspace: Workspace, plans: Iterable[ShardPlan]) -> dict[int, list[int]]:
    """By shard the slices whose checkpoint is not there."""
    stale = {}
    for plan in plans:
        homes = workspace.checkpoint_files(plan.shard, plan.keys)
        paths = [standing(workspace.checkpoints_folder, home) for home in homes]
        stale[plan.shard] = [] if plan.abstains else stale_slices(paths)
    return stale


def load_plan(path: Path) -> ShardPlan:
    """Read a shard's plan; raises DamagedError when it is missing or not a plan."""
    try:
        return ShardPlan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    except (OSError, ValidationError) as error:
        raise DamagedError(f"{path} is not a plan ({error})") from error


def in_words(slice_ids: Sequence[int]) -> str:
    """Slices as a person would name them: ``slices 2 to 5``, ``slice 3``, ``slices 0, 2``."""
    if len(slice_ids) > 1 and slice_ids[-1] - slice_ids[0] == len(slice_ids) - 1:
        return f"slices {slice_ids[0]} to {slice_ids[-1]}"
    return ("slice " if len(slice_ids) == 1 else "slices ") + ", ".join(map(str, slice_ids))
