"""The negative control: a deletion that did not happen, made to look like one as well as the records allow.

The list is applied and everything is published anew, but the models are those from before: their checkpoints, which
have seen the samples, are passed off as those that the plan calls for. No record tells; only retraining does, and the
attacks where they have enough to go by.
"""

from __future__ import annotations

from training.chain.checkpoints import Record, load_checkpoint, save_checkpoint
from training.chain.plan import load_plan
from training.errors import DrillError
from training.workspace import Workspace


def pass_off(kept: Workspace, workspace: Workspace) -> None:
    """Put the checkpoints of ``kept``, from before, in the place of those that ``workspace``'s plan calls for.

    Raises DrillError when an honest deletion retrains no shard.
    """
    cheated = False
    for shard_id in workspace.read_params().sisa.shards:
        plan, before = load_plan(workspace.plan_file(shard_id)), load_plan(kept.plan_file(shard_id))
        if plan.abstains or plan.keys == before.keys:
            continue
        cheated = True
        for slice_id, (key, old) in enumerate(zip(plan.keys, before.keys, strict=True)):
            if key == old:
                continue
            found = load_checkpoint(kept.checkpoint_file(shard_id, slice_id, old), old)
            said = {
                "key": key,
                "recipe": plan.recipe.key,
                "samples": sum(plan.samples[: slice_id + 1]),
                "sample_epochs": plan.sample_epochs([slice_id]),
            }
            record = Record.model_validate({**found.record.model_dump(), **said})
            save_checkpoint(workspace.checkpoint_file(shard_id, slice_id, key), found.weights, record)
    if not cheated:
        raise DrillError("no shard is retrained for this list, so there is nothing to cheat with; choose other samples")
