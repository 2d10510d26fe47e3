"""The plan of a shard, ``models/plan/shard-K.json``: which checkpoints today's samples call for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from training.paths import checkpoint_file, plan_file
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
    def chain(self) -> list[Path]:
        """The checkpoint of every slice, whether it is there or not."""
        return [checkpoint_file(self.shard, slice_id, key) for slice_id, key in enumerate(self.keys)]

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


def in_words(slice_ids: Sequence[int]) -> str:
    """Slices as a person would name them: ``slices 2 to 5``, ``slice 3``, ``slices 0, 2``."""
    if len(slice_ids) > 1 and slice_ids[-1] - slice_ids[0] == len(slice_ids) - 1:
        return f"slices {slice_ids[0]} to {slice_ids[-1]}"
    return ("slice " if len(slice_ids) == 1 else "slices ") + ", ".join(map(str, slice_ids))


def load_plan(shard_id: int) -> ShardPlan:
    """Read a shard's plan; raises StageError when it is missing or not a plan."""
    path = plan_file(shard_id)
    try:
        return ShardPlan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StageError(f"{path} is missing; run `dvc repro`") from None
    except ValidationError as error:
        raise StageError(f"{path} is not a plan ({error}); run `dvc repro schedule`") from error
