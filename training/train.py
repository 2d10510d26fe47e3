"""Stage train@K: train one shard, slice by slice, resuming after what is still valid.

It reads the shard's own file and plan and nothing of any other shard. Checkpoints that are not on
the plan's key chain are deleted first; then every slice without a sound checkpoint is trained from
the one before it.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from training import stage
from training.checkpoints import CheckpointError, load_checkpoint, save_checkpoint, shard_lock
from training.files import json_bytes, write_atomic
from training.initial_weights import initial_weights_digest, initial_weights_file, read_initial_weights
from training.keys import recipe_key
from training.loop import seed_for, train_slice
from training.network import Classifier, build_network
from training.params import Params, load_params
from training.paths import COST_REPORTS, TRAINING_REPORTS, checkpoint_file, checkpoint_folder, shard_file
from training.plan import ShardPlan, load_plan
from training.shards import Shard, load_shard
from training.stage import StageError


def main(
    shard: Annotated[int, typer.Option(help="which shard to train")],
    fresh: Annotated[bool, typer.Option(help="delete the shard's checkpoints first, also valid ones")] = False,
) -> None:
    params = load_params()
    if shard not in params.sisa.shards:
        raise StageError(f"--shard {shard}: sisa.shards lists {list(params.sisa.shards)}")
    plan, samples = load_plan(shard), load_shard(shard_file(shard))
    check_plan(plan, samples, params)
    device = choose_device(params.device)
    with shard_lock(shard):
        prune(plan, fresh)
        train_shard(plan, samples, params, device)


def check_plan(plan: ShardPlan, samples: Shard, params: Params) -> None:
    """Refuse a plan made for other parameters, code, initial weights or samples than today's."""
    recipe = recipe_key(params, plan.shard, plan.classes, initial_weights_digest(params.network))
    if recipe != plan.recipe:
        raise StageError(
            f"the plan of shard {plan.shard} was made for other parameters, code or initial weights; "
            "run `dvc repro -f schedule`, then `dvc repro`"
        )
    if len(samples.ids) != sum(plan.samples):
        raise StageError(
            f"the plan of shard {plan.shard} counts {sum(plan.samples)} samples, its file holds "
            f"{len(samples.ids)}; run `dvc repro`"
        )


def choose_device(name: str) -> torch.device:
    """The device to train on, set to compute the same bits again on the same machine and versions."""
    if name == "cuda" and not torch.cuda.is_available():
        raise StageError("device is cuda, but torch finds no CUDA device; use auto or cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    # Not the debugging aid that comes with it and costs a twentieth of the speed.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Full fp32 where fp32 is asked for: no TF32 on CUDA.
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def prune(plan: ShardPlan, fresh: bool) -> None:
    """Delete every file in the shard's folder that is not on its key chain; with ``fresh`` all of them."""
    folder = checkpoint_folder(plan.shard)
    folder.mkdir(parents=True, exist_ok=True)
    keep = set() if fresh or plan.abstains else set(chain_files(plan))
    for path in folder.iterdir():
        if path not in keep:
            path.unlink()


def chain_files(plan: ShardPlan) -> list[Path]:
    return [checkpoint_file(plan.shard, slice_id, key) for slice_id, key in enumerate(plan.keys)]


def train_shard(plan: ShardPlan, samples: Shard, params: Params, device: torch.device) -> None:
    """Train every slice that has no sound checkpoint, then write the shard's loss curve and cost."""
    stale = [] if plan.abstains else [r for r in range(len(plan.keys)) if not is_sound(plan, r)]
    images, labels = torch.from_numpy(samples.images).to(device), torch.from_numpy(samples.labels).to(device)
    started = time.perf_counter()
    with progress(plan, stale) as bar:
        for slice_id in stale:
            network = network_before(plan, slice_id, params).to(device)
            if device.type == "cpu":
                network = network.to(memory_format=torch.channels_last)
            union = samples.union_size(slice_id)
            try:
                losses = train_slice(
                    network,
                    images[:union],
                    labels[:union],
                    params.training,
                    seed=params.seed,
                    shard_id=plan.shard,
                    slice_id=slice_id,
                    slices=len(plan.keys),
                    on_batch=on_batch(bar, plan, slice_id),
                )
            except FloatingPointError as error:
                raise StageError(f"{error}; training diverged: lower training.learning_rate") from error
            save_checkpoint(
                checkpoint_file(plan.shard, slice_id, plan.keys[slice_id]),
                network.backbone.state_dict(),
                {
                    "key": plan.keys[slice_id],
                    "recipe": plan.recipe,
                    "shard": plan.shard,
                    "slice": slice_id,
                    "losses": losses,
                    "environment": environment(device),
                },
            )
    seconds = time.perf_counter() - started
    write_reports(plan, stale, seconds)


def is_sound(plan: ShardPlan, slice_id: int) -> bool:
    """Whether the slice's checkpoint is there, whole and its own; a damaged one is deleted, and said so."""
    path = checkpoint_file(plan.shard, slice_id, plan.keys[slice_id])
    if not path.is_file():
        return False
    try:
        load_checkpoint(path, plan.keys[slice_id])
    except CheckpointError as error:
        print(f"{error}; the slice is trained again", file=sys.stderr)
        path.unlink()
        return False
    return True


def network_before(plan: ShardPlan, slice_id: int, params: Params) -> Classifier:
    """The network as slice ``slice_id`` finds it: the checkpoint before, or the initial weights."""
    torch.manual_seed(seed_for(params.seed, plan.shard, -1, "initialisation"))
    network = build_network(params.network.name, plan.classes)
    if slice_id > 0:
        previous = slice_id - 1
        state, _ = load_checkpoint(checkpoint_file(plan.shard, previous, plan.keys[previous]), plan.keys[previous])
        network.backbone.load_state_dict(state)
    elif (path := initial_weights_file(params.network)) is not None:
        start_from(network, read_initial_weights(path), params.network.name)
    return network


def start_from(network: Classifier, weights: dict[str, Tensor], name: str) -> None:
    """Take over all weights but the head's, which stays random: it has its own shape and classes.

    Raises StageError when the rest does not fit.
    """
    head = [key for key in network.backbone.state_dict() if key.startswith("fc.")]
    body = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    try:
        missing, unexpected = network.backbone.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise StageError(f"network.weights do not fit {name}: {error}") from error
    if set(missing) - set(head) or unexpected:
        raise StageError(
            f"network.weights do not fit {name}: missing {sorted(set(missing) - set(head))}, unexpected {unexpected}"
        )


def progress(plan: ShardPlan, stale: list[int]) -> tqdm[NoReturn]:
    return tqdm(
        total=plan.sample_epochs(stale),
        desc=f"shard {plan.shard}",
        unit="img",
        unit_scale=True,
        disable=not stale,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )


def on_batch(bar: tqdm[NoReturn], plan: ShardPlan, slice_id: int) -> Callable[[int, int], None]:
    def report(epoch: int, count: int) -> None:
        bar.set_postfix_str(
            f"slice {slice_id + 1}/{len(plan.keys)}, epoch {epoch + 1}/{plan.epochs_per_slice}", refresh=False
        )
        bar.update(count)

    return report


def environment(device: torch.device) -> dict[str, str | int]:
    """What the bits of a model depend on beside its recipe."""
    on_cuda = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def write_reports(plan: ShardPlan, trained: list[int], seconds: float) -> None:
    """The loss curve of the whole chain, read back from its checkpoints, and what this run cost."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["epoch", "slice", "loss"])
    epoch = 0
    for slice_id, key in enumerate(() if plan.abstains else plan.keys):
        _, record = load_checkpoint(checkpoint_file(plan.shard, slice_id, key), key)
        for loss in record["losses"]:
            epoch += 1
            writer.writerow([epoch, slice_id, f"{loss:.6f}"])
    write_atomic(TRAINING_REPORTS / f"shard-{plan.shard}.csv", table.getvalue().encode())
    cost = plan.sample_epochs(trained)
    run = {
        "shard": plan.shard,
        "trained_slices": trained,
        "sample_epochs": cost,
        "train_seconds": round(seconds, 3),
        "images_per_second": round(cost / seconds, 1) if trained else None,
    }
    write_atomic(COST_REPORTS / f"shard-{plan.shard}.json", json_bytes(run))
    if trained:
        print(f"shard {plan.shard}: trained slices {trained[0]} to {trained[-1]} in {seconds:.1f} s")
    else:
        print(f"shard {plan.shard}: every checkpoint is valid, nothing to train")


if __name__ == "__main__":
    stage.run(main)
