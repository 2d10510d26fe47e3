"""The trainer of heads in closed form."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from training.chain.checkpoints import Arrays
from training.engine.trainer import Environment
from training.errors import TrainingError
from training.recipe.common.recipe import Recipe
from training.recipe.common.slices import TrainedSlice
from training.recipe.head.closed_form import train_slices


class ClosedForm:
    """A ``Trainer``."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @property
    def environment(self) -> Environment:
        """What the bits of a head depend on beside its recipe."""
        blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
        return {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "blas": ", ".join(sorted({f"{info['internal_api']} {info['version']}" for info in blas})),
            "device": ", ".join(sorted({str(info.get("architecture")) for info in blas})),
        }

    def train(
        self,
        inputs: NDArray[np.float32],
        labels: NDArray[np.int64],
        slices: NDArray[np.int64],
        *,
        stale: Sequence[int],
        weights: Mapping[int, Arrays],  # a head starts from no other
        on_batch: Callable[[int, int, int], None],
    ) -> Iterator[TrainedSlice]:
        """Raises TrainingError when a feature is not finite or memory does not suffice."""
        try:
            yield from train_slices(self.recipe, inputs, labels, slices, stale=stale, on_batch=on_batch)
        except FloatingPointError as error:
            raise TrainingError(f"shard {self.recipe.shard}: {error}; is the backbone a sound one?") from error
        except MemoryError as error:
            raise TrainingError(f"shard {self.recipe.shard}: {error}; use more shards (sisa.shards)") from error
