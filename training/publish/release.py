"""The release candidate, ``models/release.json``: what could be served of what was trained last.

It is an output of DVC. What is served is not: ``publish`` decides about that.
"""

from __future__ import annotations

from collections.abc import Iterator

from serving.ensemble.manifest import BackboneEntry, Forgotten, Release, ShardEntry
from training.chain.plan import ShardPlan, load_plan
from training.data.summary import read_summary
from training.errors import DamagedError
from training.files import write_if_changed
from training.learning import FrozenNetwork
from training.publish.provenance import check_record
from training.publish.record import ShardRecord, load_record
from training.workspace import Workspace


def assemble(workspace: Workspace) -> Release:
    """Bring together what the shards' trainers made, each checked against its plan; write the candidate.

    Raises DamagedError when a model is missing or is not the one that its plan calls for.
    """
    params = workspace.read_params()
    partition = read_summary(workspace.partition_file)
    shards, plans = [], [load_plan(workspace.plan_file(shard_id)) for shard_id in params.sisa.shards]
    for shard_id, plan in zip(params.sisa.shards, plans, strict=True):
        record = load_record(workspace.export_record(shard_id))
        check_record(record, plan, workspace.export_file(shard_id))
        shards.append(listed(workspace, record))
    release = Release(
        aggregation=params.sisa.aggregation,
        classes=partition.classes,
        image_shape=partition.image_shape,
        forgotten=Forgotten(**partition.forgotten.model_dump()),
        placement_key_digest=None if partition.placement is None else partition.placement.key_digest,
        shards=tuple(shards),
        backbone=backbone(plans[0]),
    )
    write_if_changed(workspace.release_file, release.to_bytes())
    return release


def backbone(plan: ShardPlan) -> BackboneEntry | None:
    """The backbone whose features a plan's shard takes, as the candidate lists it."""
    recipe = plan.recipe
    if not isinstance(recipe.network, FrozenNetwork):
        return None
    assert recipe.features is not None
    file = recipe.network.backbone.removeprefix("models/")
    return BackboneEntry(file=file, sha256=recipe.initial_weights, features=recipe.features)


def listed(workspace: Workspace, record: ShardRecord) -> ShardEntry:
    """A shard as the candidate lists it."""
    abstains, file = record.sha256 is None, workspace.export_file(record.shard)
    return ShardEntry(
        shard=record.shard,
        retained=record.retained,
        key=record.keys[-1],
        abstains=abstains,
        file=None if abstains else file.relative_to(workspace.models_folder).as_posix(),
        sha256=record.sha256,
    )


def read_records(workspace: Workspace, release: Release) -> Iterator[ShardRecord]:
    """The record of every shard of the candidate.

    Raises DamagedError when one is missing, damaged, or of another model than the candidate lists.
    """
    for shard in release.shards:
        path = workspace.export_record(shard.shard)
        record = load_record(path)
        if (record.keys[-1], record.sha256) != (shard.key, shard.sha256):
            raise DamagedError(f"{path} is of another model than {workspace.release_file} lists")
        yield record
