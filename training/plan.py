"""The plan of a shard, ``models/plan/shard-K.json``: which checkpoints today's samples call for."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from training.paths import plan_file
from training.stage import StageError


class ShardPlan(BaseModel):
    """``recipe``: key of the recipe. ``keys[r]``: key of slice r. ``samples[r]``: retained in slice r.

    ``classes``: number of classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    classes: int
    epochs_per_slice: int
    recipe: str
    keys: tuple[str, ...]
    samples: tuple[int, ...]

    @property
    def abstains(self) -> bool:
        """True when all samples of the shard are forgotten: it then has no model."""
        return not any(self.samples)

    def sample_epochs(self, slice_ids: Iterable[int]) -> int:
        """Cost of training these slices: pictures passed through the network, slice by slice.

        Slice r trains ``epochs_per_slice`` times on the union of slices 0..r (Bourtoule et al.,
        2021, section V).
        """
        return self.epochs_per_slice * sum(sum(self.samples[: slice_id + 1]) for slice_id in slice_ids)


def load_plan(shard_id: int) -> ShardPlan:
    """Read a shard's plan; raises StageError when it is missing or not a plan."""
    path = plan_file(shard_id)
    try:
        return ShardPlan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StageError(f"{path} is missing; run `dvc repro`") from None
    except ValidationError as error:
        raise StageError(f"{path} is not a plan ({error}); run `dvc repro schedule`") from error
