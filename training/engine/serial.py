"""The serial engine: trains and exports one shard in this process.

Its unit, *train and export one shard*, is idempotent: what is already there by its key is verified and
kept. So it may be stopped at any point and called again.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from training.chain.checkpoints import Checkpoint, CheckpointError, Record, load_checkpoint
from training.chain.initial_weights import initial_weights_digest, initial_weights_file
from training.chain.keys import RECIPE_FOLDER
from training.chain.plan import ShardPlan, check_plan, in_words, load_plan
from training.data.store import Shard, load_shard
from training.errors import DamagedError, StalePlanError
from training.files import csv_bytes, json_bytes, remove, write_atomic, write_if_changed
from training.params import Params
from training.publish.history import read_history, withdrawn_models
from training.publish.provenance import check_record, graph_digest
from training.publish.record import ShardRecord, SliceCost, load_record
from training.syntax import folder_digest
from training.workspace import Workspace

logger = logging.getLogger(__name__)

# How long OpenMP's threads spin before they sleep. With the default of some 300,000 a shard of the digits
# took 79 s in place of 1.5 beside two busy processes, with this 8 s, and on idle cores both took the same.
SPINS = "10000"


@dataclass
class Chain:
    """What exists of a shard's key chain.

    ``paths[r]``: the checkpoint of slice r, whether it is there or not. ``records[r]``: what it says,
    where it is sound. ``stale``: the other slices. ``needed``: checkpoints that training builds upon or
    that is exported, each read once.
    """

    paths: list[Path]
    records: dict[int, Record] = field(default_factory=dict)
    stale: list[int] = field(default_factory=list)
    needed: dict[int, Checkpoint] = field(default_factory=dict)


def train_shard(workspace: Workspace, shard_id: int, *, fresh: bool = False) -> None:
    """Bring a shard's checkpoints and export to what its plan calls for; ``fresh``: train all of it again.

    Raises StalePlanError when the plan is not that of today's samples, parameters and code,
    DamagedError when plan or shard file are missing or damaged, TrainingError when training fails,
    PublishError when the export does not agree with torch.
    """
    workspace.read_params().check_shard(shard_id)
    with workspace.shard_lock(shard_id):
        # Read under the lock: samples may have been forgotten while this process waited for it.
        params = workspace.read_params()
        plan, shard = load_plan(workspace.plan_file(shard_id)), load_shard(workspace.shard_file(shard_id))
        check_plan(plan, params, initial_weights_digest(workspace.root, params.network), shard)
        chain = Chain(workspace.checkpoint_files(shard_id, plan.keys))
        prune(workspace.checkpoint_folder(shard_id), set() if fresh or plan.abstains else set(chain.paths))
        if not plan.abstains:
            read_chain(plan, chain)
        if chain.stale:
            train(workspace, plan, shard, chain, params)
        else:
            logger.info("shard %d: every checkpoint is valid, nothing to train", shard_id)
        write_curve(workspace.training_report(shard_id), chain.records)
        export(workspace, plan, chain)


def prune(folder: Path, keep: set[Path]) -> None:
    """Delete every file in the shard's folder that is not on its key chain."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path not in keep:
            remove(path)


def read_chain(plan: ShardPlan, chain: Chain) -> None:
    """Read every checkpoint once; a damaged one is deleted, which is logged, and its slice is stale."""
    before = None
    for slice_id, (path, key) in enumerate(zip(chain.paths, plan.keys, strict=True)):
        checkpoint = None
        if path.is_file():
            try:
                checkpoint = load_checkpoint(path, key)
            except CheckpointError as error:
                logger.warning("%s; the slice is trained again", error)
                path.unlink()
        if checkpoint is None:
            chain.stale.append(slice_id)
            if before is not None:
                chain.needed[slice_id - 1] = before
        else:
            chain.records[slice_id] = checkpoint.record
        before = checkpoint
    if before is not None:
        chain.needed[len(chain.paths) - 1] = before


def train(workspace: Workspace, plan: ShardPlan, shard: Shard, chain: Chain, params: Params) -> None:
    """Train the stale slices and save a checkpoint after each."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    from training.engine import trainer  # torch takes seconds to import
    from training.recipe.common.device import choose_device

    check_code(plan)  # what is imported now is what the plan was made for
    device = choose_device(params.device, params.training.threads)
    environment = trainer.environment(device)
    for slice_id, checkpoint in chain.needed.items():
        if slice_id + 1 in chain.stale and checkpoint.record.environment != environment:
            logger.warning(
                "%s was made by %s, this is %s: the result is sound, but not bit for bit that of a training from "
                "scratch here",
                workspace.short(chain.paths[slice_id]),
                dict(checkpoint.record.environment),
                environment,
            )
    seconds = 0.0
    stale = list(chain.stale)
    with progress(plan, stale) as bar:
        trained = trainer.train(
            plan.recipe,
            shard,
            stale=stale,
            weights={slice_id: checkpoint.weights for slice_id, checkpoint in chain.needed.items()},
            initial_weights=initial_weights_file(workspace.root, params.network),
            device=device,
            on_batch=on_batch(bar, plan),
        )
        for part in trained:
            record = Record(
                key=plan.keys[part.slice_id],
                recipe=plan.recipe.key,
                shard=plan.shard,
                slice_id=part.slice_id,
                samples=part.samples,
                sample_epochs=part.sample_epochs,
                losses=tuple(part.losses),
                environment=environment,
                seconds=round(part.seconds, 3),
            )
            checkpoint = trainer.save(chain.paths[part.slice_id], part, record)
            chain.records[part.slice_id] = record
            if part.slice_id == len(chain.paths) - 1:
                chain.needed[part.slice_id] = checkpoint
            seconds += part.seconds
    logger.info("shard %d: trained %s in %.1f s", plan.shard, in_words(stale), seconds)


def check_code(plan: ShardPlan) -> None:
    """Raise StalePlanError when the recipe's code on the disk is not that of the plan (any more)."""
    if any(folder_digest(RECIPE_FOLDER / room) != digest for room, digest in plan.recipe.code.items()):
        raise StalePlanError(f"the plan of shard {plan.shard} was made for other code than there is now")


def progress(plan: ShardPlan, stale: list[int]) -> tqdm[NoReturn]:
    return tqdm(
        total=plan.sample_epochs(stale),
        desc=f"shard {plan.shard}",
        unit="img",
        unit_scale=True,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )


def on_batch(bar: tqdm[NoReturn], plan: ShardPlan) -> Callable[[int, int, int], None]:
    slices, epochs = len(plan.keys), plan.recipe.training.epochs_per_slice

    def report(slice_id: int, epoch: int, count: int) -> None:
        bar.set_postfix_str(f"slice {slice_id + 1}/{slices}, epoch {epoch + 1}/{epochs}", refresh=False)
        bar.update(count)

    return report


def write_curve(path: Path, records: Mapping[int, Record]) -> None:
    """The loss curve of the whole chain."""
    losses = [(slice_id, f"{loss:.6f}") for slice_id in sorted(records) for loss in records[slice_id].losses]
    rows = [(epoch, *row) for epoch, row in enumerate(losses, start=1)]
    write_if_changed(path, csv_bytes(("epoch", "slice", "loss"), rows))


def export(workspace: Workspace, plan: ShardPlan, chain: Chain) -> None:
    """Write the shard's ONNX file and its record, unless they are those of the plan already."""
    onnx_file, record_file = workspace.export_file(plan.shard), workspace.export_record(plan.shard)
    graph, withdrawn = None if plan.abstains else graph_digest(plan.recipe), withdrawn_models(read_history(workspace))
    costs = tuple(cost(chain.records[slice_id]) for slice_id in sorted(chain.records))
    try:
        record = load_record(record_file)
        check_record(record, plan, onnx_file)
        if record.graph == graph and record.slices == costs and record.sha256 not in withdrawn:
            return
    except DamagedError:
        pass  # it is written below
    sha256 = None
    if plan.abstains:
        write_atomic(onnx_file, b"")
        logger.info("shard %d: all its samples are forgotten; it has no model and abstains", plan.shard)
    else:
        from training.engine import trainer

        assert graph is not None
        provenance = {"key": plan.keys[-1], "shard": str(plan.shard)}
        graph_file = workspace.graphs_folder / graph[:16]
        weights = chain.needed[len(plan.keys) - 1].weights
        sha256, size, difference = trainer.write_export(
            plan.recipe, weights, graph_file, provenance, onnx_file, withdrawn=withdrawn
        )
        logger.info(
            "shard %d: %s, %.1f MB, differs from torch by at most %.1e",
            plan.shard,
            workspace.short(onnx_file),
            size / 1e6,
            difference,
        )
    record = ShardRecord(
        shard=plan.shard,
        retained=plan.retained,
        keys=plan.keys,
        merkle_root=plan.merkle_root,
        sha256=sha256,
        graph=graph,
        slices=costs,
    )
    write_atomic(record_file, json_bytes(record.model_dump(mode="json")))


def cost(record: Record) -> SliceCost:
    """What a checkpoint says about its own training, as it is published."""
    return SliceCost(
        key=record.key,
        samples=record.samples,
        sample_epochs=record.sample_epochs,
        seconds=record.seconds,
        device=str(record.environment["device"]),
    )
