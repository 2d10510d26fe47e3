"""Which model answers for a pending shard where too few others do: that of its deepest slice that never saw the sample.

Only there: an early slice's network is a poor one, and abstaining costs less (DESIGN, "The life of a deletion").
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from serving.ensemble.manifest import Release, ShardEntry
from serving.ensemble.turnout import shards_needed, turnout
from training.blocks import standing
from training.chain.checkpoints import CheckpointError, load_checkpoint
from training.chain.plan import load_plan
from training.errors import DamagedError
from training.files import write_atomic
from training.memory.members import read_members, write_members
from training.memory.suppressed import Memory
from training.publish.events import Entry, Published
from training.publish.history import absent, withdrawn_models
from training.publish.memory import touched
from training.publish.model_file import make_model
from training.publish.record import ShardRecord
from training.workspace import Workspace

logger = logging.getLogger(__name__)


def with_earlier_slices(
    workspace: Workspace, entries: Sequence[Entry], memory: Memory, release: Release, quorum: float
) -> Release:
    """The release, its pending shards answering from an earlier slice if fewer than the quorum would answer without.

    Their models are written to ``models/onnx/``. ``quorum``: share of the shards with samples. A shard whose first
    slice saw the sample, or whose checkpoint is not there, stays pending.
    """
    present = turnout(release)
    if present.answered >= shards_needed(present.of, quorum):
        return release
    shards = [
        (earlier_slice(workspace, entries, memory, shard) or shard) if shard.pending else shard
        for shard in release.shards
    ]
    return release.model_copy(update={"shards": tuple(shards)})


def earlier_slice(
    workspace: Workspace, entries: Sequence[Entry], memory: Memory, shard: ShardEntry
) -> ShardEntry | None:
    """The shard as it answers from the deepest slice that saw nothing that is suppressed; None where it cannot."""
    record = last_record(entries, shard.shard)
    if record is None or record.sha256 is None:
        return None
    try:
        members = read_members(workspace.members_file(record.sha256))
        plan = load_plan(workspace.plan_file(shard.shard))
    except (FileNotFoundError, DamagedError):
        return None
    hit = [members.slices[digest] for digest in touched(members, memory)]
    deepest = (
        min(hit, default=0) - 1
    )  # withdrawn for a reason that is not known here: no slice is known to be free of it
    if deepest < 0 or plan.keys[: deepest + 1] != record.keys[: deepest + 1]:
        return None
    key = record.keys[deepest]
    try:
        path = standing(workspace.checkpoints_folder, workspace.checkpoint_file(shard.shard, deepest, key))
        checkpoint = load_checkpoint(path, key)
    except CheckpointError as error:
        logger.warning("shard %d cannot answer from slice %d: %s", shard.shard, deepest, error)
        return None
    provenance = {"key": key, "shard": str(shard.shard), "slice": str(deepest)}
    content, _ = make_model(workspace, plan.recipe, checkpoint.weights, provenance)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 in withdrawn_models(entries):
        return None
    part = members.up_to(deepest)
    write_members(workspace.members_file(sha256), part)
    path = workspace.published_file(shard.shard, sha256)
    write_atomic(path, content)
    return ShardEntry(
        shard=shard.shard,
        retained=len(part.rows),
        key=key,
        abstains=False,
        file=path.relative_to(workspace.models_folder).as_posix(),
        sha256=sha256,
        earlier_slice=deepest,
    )


def last_record(entries: Sequence[Entry], shard_id: int) -> ShardRecord | None:
    """What is known of the last model that answered for a shard with all its slices."""
    for entry in reversed(entries):
        if isinstance(entry, Published) and shard_id not in absent(entry):
            for record in entry.shards:
                if record.shard == shard_id:
                    return record
    return None
