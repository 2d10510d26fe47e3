"""A trained shard's ONNX file, its record and its loss curve."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from training.chain.checkpoints import Arrays, Record
from training.chain.plan import ShardPlan
from training.engine.chain import Chain
from training.errors import DamagedError
from training.files import csv_bytes, json_bytes, write_atomic, write_if_changed
from training.publish.history import read_history, withdrawn_models
from training.publish.model_file import make_model
from training.publish.provenance import check_record, graph_digest
from training.publish.record import ShardRecord, SliceCost, load_record
from training.workspace import Workspace

logger = logging.getLogger(__name__)


def write_curve(path: Path, records: Mapping[int, Record]) -> None:
    """The loss curve of the whole chain."""
    losses = [(slice_id, f"{loss:.6f}") for slice_id in sorted(records) for loss in records[slice_id].losses]
    rows = [(epoch, *row) for epoch, row in enumerate(losses, start=1)]
    write_if_changed(path, csv_bytes(("epoch", "slice", "loss"), rows))


def export(workspace: Workspace, plan: ShardPlan, chain: Chain) -> None:
    """Write the shard's ONNX file and its record, unless they are those of the plan already."""
    onnx_file, record_file = workspace.export_file(plan.shard), workspace.export_record(plan.shard)
    graph, withdrawn = None if plan.abstains else graph_digest(plan.recipe), withdrawn_models(read_history(workspace))
    made = [chain.records[slice_id] for slice_id in sorted(chain.records)]
    costs, environments = tuple(map(cost, made)), tuple(environments_of(made))
    try:
        record = load_record(record_file)
        check_record(record, plan, onnx_file)
        known = (record.graph, record.slices, record.environments)
        if known == (graph, costs, environments) and record.sha256 not in withdrawn:
            return
    except DamagedError:
        pass  # it is written below
    sha256 = None
    if plan.abstains:
        write_atomic(onnx_file, b"")
        logger.info("shard %d: all its samples are forgotten; it has no model and abstains", plan.shard)
    else:
        content, difference = issue(workspace, plan, chain.needed[len(plan.keys) - 1].weights, withdrawn)
        write_atomic(onnx_file, content)
        sha256 = hashlib.sha256(content).hexdigest()
        logger.info(
            "shard %d: %s, %.2f MB, its probabilities are off by at most %.1e",
            plan.shard,
            workspace.short(onnx_file),
            len(content) / 1e6,
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
        environments=environments,
    )
    write_atomic(record_file, json_bytes(record.model_dump(mode="json")))


def issue(workspace: Workspace, plan: ShardPlan, weights: Arrays, withdrawn: Set[str]) -> tuple[bytes, float]:
    """The model, and how far it is off. ``withdrawn``: digests that never answer again.

    Where a sample was reinstated the same training comes to the same bytes as before, so the file then says that it
    is another issue of them.
    """
    number = 1
    while True:
        provenance = {"key": plan.keys[-1], "shard": str(plan.shard)}
        said = provenance if number == 1 else {**provenance, "issue": str(number)}
        content, difference = make_model(workspace, plan.recipe, weights, said)
        if hashlib.sha256(content).hexdigest() not in withdrawn:
            return content, difference
        number += 1


def environments_of(records: Iterable[Record]) -> list[dict[str, str | int | None]]:
    """What slices were trained with and on, each environment once."""
    found: list[dict[str, str | int | None]] = []
    for record in records:
        if dict(record.environment) not in found:
            found.append(dict(record.environment))
    return found


def cost(record: Record) -> SliceCost:
    """What a checkpoint says about its own training, as it is published."""
    return SliceCost(
        key=record.key,
        samples=record.samples,
        sample_epochs=record.sample_epochs,
        seconds=record.seconds,
        device=str(record.environment["device"]),
    )
