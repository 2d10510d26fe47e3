"""Stage schedule: what must be retrained, and what it costs, before anything is trained.

It writes each shard's plan, which is all that ``train@B`` goes by, moves what stands in the block of
another number of blocks, and deletes what belongs to shards that are no longer in ``sisa.shards``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from rich.console import Console
from rich.table import Table

from training.blocks import BLOCKS, block_folder, block_list, bring_home, shards_of
from training.chain.initial_weights import initial_weights_digest
from training.chain.plan import ShardPlan, in_words, load_plan, make_plan, retrained
from training.data.features import read_features
from training.data.store import load_shard
from training.data.summary import placement, read_summary
from training.errors import DamagedError, StalePlanError
from training.files import json_bytes, remove, sha256_file, write_if_changed
from training.learning import FrozenNetwork, Sgd
from training.stages.run import run
from training.workspace import Workspace

logger = logging.getLogger(__name__)


def schedule(workspace: Workspace) -> None:
    """Raises DamagedError when a shard file is missing or damaged, TrainingError when initial weights are,
    StalePlanError when samples were placed by other parameters."""
    params = workspace.read_params()
    summary = read_summary(workspace.partition_file)
    if summary.placement != placement(params):
        raise StalePlanError(f"{workspace.partition_file} was written with other parameters")
    classes = len(summary.classes)
    weights = initial_weights_digest(workspace.root, params.network)
    say_if_keys_changed(workspace)
    plans = []
    for shard_id in params.sisa.shards:
        shard = load_shard(workspace.shard_file(shard_id))
        features = None
        if isinstance(params.network, FrozenNetwork):
            features = read_features(workspace.features_file(shard_id)).of(shard)
        plan = make_plan(params, shard_id, classes, weights, shard, features=features)
        write_if_changed(workspace.plan_file(shard_id), json_bytes(plan.model_dump(mode="json")))
        plans.append(plan)
    write_blocks(workspace, plans)  # first: if moving is cut short and `sisa.blocks` set back, DVC must see a change
    bring_all_home(workspace, params.sisa.shards)
    prune(workspace, params.sisa.shards)
    if isinstance(params.training, Sgd):
        for sentence in short_slices(plans, params.training.batch_size):
            logger.warning(sentence)
    show(plans, retrained(workspace, plans))


def write_blocks(workspace: Workspace, plans: Sequence[ShardPlan]) -> None:
    """Write each block's file, the digests of its shards' plans: its stage runs again when one of them changes."""
    for block in range(BLOCKS):
        digests = {
            workspace.short(path): sha256_file(path)
            for path in map(workspace.plan_file, shards_of(block, [plan.shard for plan in plans], workspace.blocks))
        }
        write_if_changed(workspace.block_plan_file(block), json_bytes(digests))


def say_if_keys_changed(workspace: Workspace) -> None:
    """Tell that plans of an earlier version are there: its keys were others, so no checkpoint of it is on a chain."""
    for path in sorted(workspace.plan_folder.glob("shard-*.json")):
        try:
            load_plan(path)
        except DamagedError:
            print(
                f"{workspace.short(path)} was not written by this version, whose keys are others (CHANGELOG.md): what "
                "was trained with the earlier one is trained again, once"
            )
            return


def short_slices(plans: Sequence[ShardPlan], batch_size: int) -> list[str]:
    """A sentence where slices are smaller than a batch.

    Such a slice adds less than one step an epoch: its checkpoint costs as much as any other and hardly saves anything
    when one of the slices after it is retrained.
    """
    used = [plan for plan in plans if not plan.abstains]
    short = [
        f"{count} in slice {slice_id} of shard {plan.shard}"
        for plan in used
        for slice_id, count in enumerate(plan.samples)
        if count < batch_size
    ]
    if not short:
        return []
    some = ", ".join([*short[:3], *(["…"] if len(short) > 3 else [])])
    return [
        f"{len(short)} of {sum(len(plan.samples) for plan in used)} slices have fewer samples than a batch of "
        f"{batch_size} ({some}); use fewer slices (sisa.slices) or a smaller training.batch_size"
    ]


def show(plans: Sequence[ShardPlan], stale: Mapping[int, Sequence[int]]) -> None:
    """The cost of this run beside that of a full training."""
    table = Table("shard", "samples", "retrain", "sample-epochs", "of a full training", title="This run")
    run_cost = full_cost = 0
    for plan in plans:
        slices = stale[plan.shard]
        cost, full = plan.sample_epochs(slices), plan.full_sample_epochs
        what = in_words(slices) if slices else "nothing"
        table.add_row(str(plan.shard), str(plan.retained), what, f"{cost:,}", f"{cost / full if full else 0:.1%}")
        run_cost, full_cost = run_cost + cost, full_cost + full
    table.add_section()
    table.add_row("all", "", "", f"{run_cost:,}", f"{run_cost / full_cost:.1%}")
    Console().print(table)


def bring_all_home(workspace: Workspace, shards: Sequence[int]) -> None:
    """Another number of blocks retrains nothing."""
    for shard_id in shards:
        with workspace.shard_lock(shard_id):
            bring_home(workspace.checkpoints_folder, workspace.checkpoint_folder(shard_id))
            for path in (workspace.export_file, workspace.export_record, workspace.loss_curve):
                bring_home(workspace.exports_folder, path(shard_id))


def prune(workspace: Workspace, shards: Sequence[int]) -> None:
    """Delete plans, checkpoints and models of shards that are not among ``shards``."""
    keep = {workspace.block_plan_file(block) for block in range(BLOCKS)}
    for shard_id in shards:
        keep |= {workspace.plan_file(shard_id), workspace.checkpoint_folder(shard_id)}
        keep |= {workspace.export_file(shard_id), workspace.export_record(shard_id), workspace.loss_curve(shard_id)}
    folders = [workspace.plan_folder]
    for folder in (workspace.checkpoints_folder, workspace.exports_folder):
        blocks = [block_folder(folder, block) for block in range(BLOCKS)]
        keep |= {*blocks, *(block_list(folder, block) for block in range(BLOCKS))}
        folders += [folder, *blocks]
    for folder in folders:
        for path in set(folder.glob("*")) - keep:
            name = path.stem.removeprefix("shard-")
            # A trainer left over from a killed run may be using it.
            with workspace.shard_lock(int(name)) if name.isdecimal() else nullcontext():
                remove(path)


if __name__ == "__main__":
    run(schedule)
