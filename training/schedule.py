"""Stage schedule: what must be retrained, and what it costs, before anything is trained.

It writes each shard's plan, which is all that ``train@K`` goes by, and deletes what belongs to
shards that are no longer in ``sisa.shards``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from training import stage
from training.checkpoints import shard_lock
from training.files import json_bytes, read_json, remove, write_atomic, write_if_changed
from training.initial_weights import initial_weights_digest
from training.keys import key_chain, recipe_key
from training.params import load_params
from training.paths import (
    CHECKPOINTS_FOLDER,
    COST_REPORTS,
    EXPORTS_FOLDER,
    PARTITION_FILE,
    PLAN_FOLDER,
    PLAN_REPORT,
    TRAINING_REPORTS,
    checkpoint_folder,
    export_file,
    plan_file,
    shard_file,
)
from training.plan import ShardPlan, in_words
from training.shards import load_shard


def main() -> None:
    params = load_params()
    classes = len(read_json(PARTITION_FILE)["classes"])
    weights = initial_weights_digest(params.network)
    plans = []
    for shard_id in params.sisa.shards:
        shard = load_shard(shard_file(shard_id))
        recipe = recipe_key(params, shard_id, classes, weights)
        plan = ShardPlan(
            shard=shard_id,
            classes=classes,
            epochs_per_slice=params.training.epochs_per_slice,
            recipe=recipe,
            keys=tuple(key_chain(recipe, shard, params.sisa.slices)),
            samples=tuple(np.bincount(shard.slices, minlength=params.sisa.slices).tolist()),
        )
        write_if_changed(plan_file(shard_id), json_bytes(plan.model_dump()))
        plans.append(plan)
    prune(params.sisa.shards)
    report = summarise(plans)
    write_atomic(PLAN_REPORT, json_bytes(report))
    show(report)


def stale_slices(plan: ShardPlan) -> list[int]:
    """Slices whose checkpoint is not there, by name; the trainer looks inside as well."""
    if plan.abstains:
        return []
    return [slice_id for slice_id, path in enumerate(plan.chain) if not path.is_file()]


def summarise(plans: Iterable[ShardPlan]) -> dict[str, Any]:
    """Which slices of which shards will be trained, in sample-epochs beside a full training."""
    rows: list[dict[str, Any]] = []
    for plan in plans:
        stale = stale_slices(plan)
        rows.append(
            {
                "shard": plan.shard,
                "samples": sum(plan.samples),
                "slices": len(plan.keys),
                "retrain_slices": stale,
                "sample_epochs": plan.sample_epochs(stale),
                "full_sample_epochs": plan.sample_epochs(range(len(plan.keys))),
            }
        )
    run = sum(row["sample_epochs"] for row in rows)
    full = sum(row["full_sample_epochs"] for row in rows)
    return {"sample_epochs": run, "full_sample_epochs": full, "ratio": run / full, "shards": rows}


def show(report: dict[str, Any]) -> None:
    table = Table("shard", "samples", "retrain", "sample-epochs", "of a full training", title="This run")
    for row in report["shards"]:
        slices = row["retrain_slices"]
        what = in_words(slices) if slices else "nothing"
        share = row["sample_epochs"] / row["full_sample_epochs"] if row["full_sample_epochs"] else 0
        table.add_row(str(row["shard"]), str(row["samples"]), what, f"{row['sample_epochs']:,}", f"{share:.1%}")
    table.add_section()
    table.add_row("all", "", "", f"{report['sample_epochs']:,}", f"{report['ratio']:.1%}")
    Console().print(table)


def prune(shards: tuple[int, ...]) -> None:
    """Delete plans, checkpoints, models and reports of shards that are not among ``shards``."""
    keep: set[Path] = set()
    for shard_id in shards:
        keep |= {plan_file(shard_id), checkpoint_folder(shard_id), export_file(shard_id)}
        keep |= {TRAINING_REPORTS / f"shard-{shard_id}.csv", COST_REPORTS / f"shard-{shard_id}.json"}
    for folder in (PLAN_FOLDER, CHECKPOINTS_FOLDER, EXPORTS_FOLDER, TRAINING_REPORTS, COST_REPORTS):
        for path in set(folder.iterdir() if folder.is_dir() else ()) - keep:
            name = path.name.removeprefix("shard-")
            # A trainer left over from a killed run may be at it.
            with shard_lock(int(name)) if name.isdecimal() else nullcontext():
                remove(path)


if __name__ == "__main__":
    stage.run(main)
