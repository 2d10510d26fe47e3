"""The ledger's entry of what changed in the source without being asked for."""

from __future__ import annotations

from training.data.changes import Changes
from training.publish.events import Changed
from training.publish.opening import open_ledger
from training.workspace import Workspace


def enter_changes(workspace: Workspace, found: Changes) -> None:
    """Enter what vanished, was given another label, or was replaced; nothing where nothing did, or in an experiment.

    Call it before the shard files say otherwise: a run that is killed after it enters the same once more.
    """
    relabelled = len(found.relabelled) + len(found.moved)
    if workspace.is_experiment or not (found.vanished or relabelled or found.replaced):
        return
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        ledger.append(
            Changed.model_validate(
                {
                    **ledger.stamp(),
                    "vanished": len(found.vanished),
                    "relabelled": relabelled,
                    "replaced": len(found.replaced),
                }
            )
        )
