"""The part of an engine that needs torch: from a plan and its samples to checkpoints and an export."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from importlib.metadata import version
from pathlib import Path

import torch

from training.chain.checkpoints import Arrays, Checkpoint, Record, content_digest, save_checkpoint
from training.data.store import Shard
from training.errors import TrainingError
from training.files import write_atomic
from training.publish.export import export
from training.recipe.common.recipe import Recipe
from training.recipe.common.shard import TrainedSlice, train_slices
from training.recipe.network.initial import initial_network


def train(
    recipe: Recipe,
    shard: Shard,
    *,
    stale: Sequence[int],
    weights: Mapping[int, Arrays],
    initial_weights: Path | None,
    device: torch.device,
    on_batch: Callable[[int, int, int], None],
) -> Iterator[TrainedSlice]:
    """Train the stale slices of a shard; ``weights[r]``: of slice r, where slice r + 1 is stale and r is not.

    Raises TrainingError when the loss diverges or memory does not suffice, DamagedError when an image
    is not what its digest says.
    """
    network = initial_network(recipe, initial_weights)
    try:
        yield from train_slices(
            network,
            recipe,
            shard.checked_images(),
            shard.labels,
            shard.slices,
            stale=stale,
            load=lambda slice_id: {name: torch.from_numpy(array) for name, array in weights[slice_id].items()},
            device=device,
            on_batch=on_batch,
        )
    except FloatingPointError as error:
        raise TrainingError(f"{error}; training diverged: lower training.learning_rate") from error
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"{error}; lower training.batch_size") from error


def save(path: Path, part: TrainedSlice, record: Record) -> Checkpoint:
    """Write a slice's checkpoint; return what it holds."""
    weights = {name: tensor.numpy() for name, tensor in part.state.items()}
    save_checkpoint(path, weights, record)
    return Checkpoint(weights, record, content_digest(weights, record))


def write_export(
    recipe: Recipe,
    weights: Arrays,
    graph_file: Path,
    provenance: dict[str, str],
    path: Path,
    *,
    withdrawn: Set[str],
) -> tuple[str, int, float]:
    """Write the ONNX file; return its SHA-256, its size in bytes, and its largest difference from torch.

    ``withdrawn``: digests that never answer again. Where a sample was reinstated the same training comes to the
    same bytes as before, so the file says that it is another issue of them.
    """
    issue = 1
    while True:
        said = provenance if issue == 1 else {**provenance, "issue": str(issue)}
        content, difference = export(recipe, weights, graph_file, said)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in withdrawn:
            break
        issue += 1
    write_atomic(path, content)
    return sha256, len(content), difference


def environment(device: torch.device) -> dict[str, str | int | None]:
    """What the bits of a model depend on beside its recipe."""
    on_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "cudnn": torch.backends.cudnn.version() if on_cuda else "unused",  # type: ignore[no-untyped-call]
        "device": torch.cuda.get_device_name(device) if on_cuda else torch.backends.cpu.get_cpu_capability(),
    }
