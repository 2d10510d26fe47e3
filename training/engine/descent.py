"""The trainer by gradient descent, for networks and for heads: the part of the engine that needs torch."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.chain.checkpoints import Arrays
from training.engine.trainer import Environment
from training.errors import TrainingError
from training.learning import FrozenNetwork, Sgd
from training.recipe.common.device import choose_device
from training.recipe.common.recipe import Recipe
from training.recipe.common.shard import train_slices
from training.recipe.common.slices import TrainedSlice


class Descent:
    """A ``Trainer``. ``initial_weights``: the file to start from, None for random weights."""

    def __init__(self, recipe: Recipe, initial_weights: Path | None, device: str) -> None:
        """Raises TrainingError when ``device``, ``auto``, ``cpu`` or ``cuda``, is not there."""
        self.recipe, self.initial_weights = recipe, initial_weights
        assert isinstance(recipe.training, Sgd)
        self.device = choose_device(device, recipe.training.threads)

    @property
    def environment(self) -> Environment:
        """What the bits of a model depend on beside its recipe."""
        on_cuda = self.device.type == "cuda"
        return {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "cudnn": torch.backends.cudnn.version() if on_cuda else "unused",  # type: ignore[no-untyped-call]
            "device": torch.cuda.get_device_name(self.device) if on_cuda else torch.backends.cpu.get_cpu_capability(),
        }

    def train(
        self,
        inputs: NDArray[Any],
        labels: NDArray[np.int64],
        slices: NDArray[np.int64],
        *,
        stale: Sequence[int],
        weights: Mapping[int, Arrays],
        on_batch: Callable[[int, int, int], None],
    ) -> Iterator[TrainedSlice]:
        """Raises TrainingError when the loss diverges or memory does not suffice."""
        try:
            yield from train_slices(
                self._initial_model(),
                self.recipe,
                inputs,
                labels,
                slices,
                stale=stale,
                load=weights.__getitem__,
                device=self.device,
                on_batch=on_batch,
            )
        except FloatingPointError as error:
            raise TrainingError(f"{error}; training diverged: lower training.learning_rate") from error
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"{error}; lower training.batch_size") from error

    def _initial_model(self) -> torch.nn.Module:
        if isinstance(self.recipe.network, FrozenNetwork):
            from training.recipe.head.linear import initial_head

            return initial_head(self.recipe)
        from training.recipe.network.initial import initial_network

        return initial_network(self.recipe, self.initial_weights)
