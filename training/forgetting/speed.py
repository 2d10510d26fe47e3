"""How fast training is, from what slices took that were trained: never from anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from training.chain.plan import ShardPlan, load_plan
from training.errors import DamagedError
from training.evaluation.reports import Absent, Report
from training.publish.events import Published
from training.publish.history import read_history
from training.publish.record import SliceCost, load_record
from training.recipe.common.recipe import Recipe
from training.workspace import Workspace


class Speed(Report):
    """What training cost where it was measured."""

    seconds_per_sample_epoch: float = Field(description="seconds of training a sample-epoch, without export", gt=0)
    slices: int = Field(description="trainings of a slice that it was measured on", ge=1)
    device: str = Field(description="what they ran on: a GPU's name, or a CPU's instruction set")


def measured_speed(workspace: Workspace, plans: Sequence[ShardPlan]) -> Speed | Absent:
    """The mean over all slices that were trained as ``plans`` would be, on the device that was used last.

    The ledger and the exports' records know what a slice took, by its key; the plans know what it was trained
    with. Raises LedgerError when the ledger is damaged.
    """
    costs = {cost.key: cost for cost in recorded(workspace, plans)}
    alike = {key for plan in plans for key in plan.keys}
    alike |= {key for plan in last_plans(workspace, plans) for key in plan.keys}
    measured = [cost for key, cost in costs.items() if key in alike and cost.sample_epochs and cost.seconds]
    if not costs:
        return Absent(absent="nothing that was trained is on record here yet")
    if not measured:
        return Absent(
            absent="nothing on record was trained with these parameters (network, image size, features, method, batch "
            "size, precision, augmentation, threads)"
        )
    device = measured[-1].device
    measured = [cost for cost in measured if cost.device == device]
    sample_epochs = sum(cost.sample_epochs for cost in measured)
    seconds = sum(cost.seconds for cost in measured)
    return Speed(seconds_per_sample_epoch=seconds / sample_epochs, slices=len(measured), device=device)


def recorded(workspace: Workspace, plans: Sequence[ShardPlan]) -> Iterator[SliceCost]:
    """What slices took, the ledger's first, then those of exports that may not be published yet."""
    for entry in read_history(workspace):
        if isinstance(entry, Published):
            for shard in entry.shards:
                yield from shard.slices
    for plan in plans:
        try:
            yield from load_record(workspace.export_record(plan.shard)).slices
        except DamagedError:
            continue  # nothing is known from there


def last_plans(workspace: Workspace, plans: Sequence[ShardPlan]) -> Iterator[ShardPlan]:
    """The plans that `schedule` made last, where they take as long a sample as ``plans``."""
    for plan in plans:
        try:
            last = load_plan(workspace.plan_file(plan.shard))
        except DamagedError:
            continue  # nothing is known from there
        if pace(last.recipe) == pace(plan.recipe):
            yield last


def pace(recipe: Recipe) -> tuple[object, ...]:
    """What of a recipe decides how long a sample takes."""
    how = recipe.training.model_dump(include={"method", "batch_size", "precision", "augmentation", "threads"})
    return recipe.network.name, recipe.image_size, recipe.features, *sorted(how.items())


def minutes_at(speed: Speed | Absent, sample_epochs: float) -> float | Absent:
    """How long training takes; absent where no speed was measured."""
    return speed if isinstance(speed, Absent) else sample_epochs * speed.seconds_per_sample_epoch / 60
