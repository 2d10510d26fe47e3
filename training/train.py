"""Stage train@K: train one shard, slice by slice, resuming after what is still valid.

It reads the shard's own file and plan and nothing of any other shard. Checkpoints that are not on
the plan's key chain are deleted first; then every slice without a sound checkpoint is trained from
the one before it.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, NoReturn

import torch
import typer
from tqdm import tqdm

from training import stage
from training.checkpoints import CheckpointError, load_checkpoint, save_checkpoint, shard_lock
from training.files import csv_bytes, json_bytes, remove, write_atomic
from training.initial_weights import initial_weights_digest
from training.keys import key_chain, recipe_key
from training.loop import train_slice
from training.network import Classifier
from training.params import Params, load_params
from training.paths import COST_REPORTS, TRAINING_REPORTS, checkpoint_folder, shard_file
from training.plan import ShardPlan, in_words, load_plan
from training.shards import Shard, load_shard
from training.stage import StageError
from training.start import choose_device, initial_network


def main(
    shard: Annotated[int, typer.Option(help="which shard to train")],
    fresh: Annotated[bool, typer.Option(help="delete the shard's checkpoints first, also valid ones")] = False,
) -> None:
    params = load_params()
    params.check_shard(shard)
    device = choose_device(params.device)
    with shard_lock(shard):
        # Read under the lock: while it was waited for, samples may have been forgotten.
        params, plan, samples = load_params(), load_plan(shard), load_shard(shard_file(shard))
        check_plan(plan, samples, params)
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
    if tuple(key_chain(recipe, samples, params.sisa.slices)) != plan.keys:
        raise StageError(
            f"the plan of shard {plan.shard} was made for other samples than its file holds; run `dvc repro`"
        )


def prune(plan: ShardPlan, fresh: bool) -> None:
    """Delete every file in the shard's folder that is not on its key chain; with ``fresh`` all of them."""
    folder = checkpoint_folder(plan.shard)
    folder.mkdir(parents=True, exist_ok=True)
    keep = set() if fresh or plan.abstains else set(plan.chain)
    for path in folder.iterdir():
        if path not in keep:
            remove(path)


def train_shard(plan: ShardPlan, samples: Shard, params: Params, device: torch.device) -> None:
    """Train every slice that has no sound checkpoint, then write the shard's loss curve and cost."""
    stale = [] if plan.abstains else [r for r in range(len(plan.keys)) if not is_sound(plan, r)]
    images, labels = torch.from_numpy(samples.images).to(device), torch.from_numpy(samples.labels).to(device)
    started = time.perf_counter()
    with progress(plan, stale) as bar:
        for slice_id in stale:
            network = network_before(plan, slice_id, params, device)
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
            except torch.OutOfMemoryError as error:
                raise StageError(f"{error}; lower training.batch_size") from error
            save_checkpoint(
                plan.chain[slice_id],
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
    path = plan.chain[slice_id]
    if not path.is_file():
        return False
    try:
        load_checkpoint(path, plan.keys[slice_id])
    except CheckpointError as error:
        print(f"{error}; the slice is trained again", file=sys.stderr)
        path.unlink()
        return False
    return True


def network_before(plan: ShardPlan, slice_id: int, params: Params, device: torch.device) -> Classifier:
    """The network as slice ``slice_id`` finds it: the checkpoint before, or the initial weights."""
    network = initial_network(params.network, plan.classes, params.seed, plan.shard)
    if slice_id > 0:
        state, record = load_checkpoint(plan.chain[slice_id - 1], plan.keys[slice_id - 1])
        network.backbone.load_state_dict(state)
        if record["environment"] != environment(device):
            print(
                f"{plan.chain[slice_id - 1]} was made by {record['environment']}, this is {environment(device)}: "
                "the result is sound, but not bit for bit that of a training from scratch here",
                file=sys.stderr,
            )
    return network.to(device)


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


def environment(device: torch.device) -> dict[str, str | int | None]:
    """What the bits of a model depend on beside its recipe."""
    on_cuda = device.type == "cuda"
    on_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "cudnn": torch.backends.cudnn.version() if on_cuda else "unused",  # type: ignore[no-untyped-call]
        "device": torch.cuda.get_device_name(device) if on_cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def write_reports(plan: ShardPlan, trained: list[int], seconds: float) -> None:
    """The loss curve of the whole chain, read back from its checkpoints, and what this run cost."""
    curve = []
    for slice_id, (path, key) in enumerate(zip(plan.chain, plan.keys, strict=True) if not plan.abstains else ()):
        _, record = load_checkpoint(path, key)
        curve += [(slice_id, f"{loss:.6f}") for loss in record["losses"]]
    rows = [(epoch, *row) for epoch, row in enumerate(curve, start=1)]
    write_atomic(TRAINING_REPORTS / f"shard-{plan.shard}.csv", csv_bytes(("epoch", "slice", "loss"), rows))
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
        print(f"shard {plan.shard}: trained {in_words(trained)} in {seconds:.1f} s")
    else:
        print(f"shard {plan.shard}: every checkpoint is valid, nothing to train")


if __name__ == "__main__":
    stage.run(main)
