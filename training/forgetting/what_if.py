"""What `sisa plan` answers: the next run, random deletions, and both with other numbers of shards and slices."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from itertools import product

from pydantic import Field

from training.errors import SisaError
from training.evaluation.reports import Absent, Report
from training.forgetting import cost
from training.forgetting.plan import RunCost, next_run, run_cost
from training.forgetting.speed import Speed, minutes_at
from training.workspace import Workspace

COUNTS = (5, 10, 20)  # of shards and of slices, in the table
MONTH = 30.0  # days


class Batch(Report):
    """Expected cost of random deletions that are retrained together."""

    deletions: int = Field(description="samples, chosen at random", ge=1)
    shards: float = Field(description="shards that are retrained, expected", ge=0)
    slices: float = Field(description="slices that are retrained, expected", ge=0)
    sample_epochs: float = Field(description="their cost in sample-epochs, expected", ge=0)
    share: float = Field(description="the same as a share of a full training", ge=0)
    minutes: float | Absent = Field(description="of training at the measured speed")


class Month(Report):
    """Expected cost of 30 days of requests, one random sample each.

    They come at random. The first one opens a window; when it closes, all that came meanwhile are retrained together.
    """

    rate: float = Field(description="requests a day", gt=0)
    window_days: float = Field(description="from the first request to the retraining, in days", gt=0)
    retrainings: float = Field(description="retrainings in 30 days, expected", ge=0)
    sample_epochs: float = Field(description="their cost in sample-epochs, all together, expected", ge=0)
    full_trainings: float = Field(description="the same in full trainings", ge=0)
    minutes: float | Absent = Field(description="of training at the measured speed, all together")
    mean_wait_days: float = Field(description="from a request until its retraining starts, in days, expected", ge=0)


class Setting(Report):
    """What the same would cost with these numbers of shards and slices, samples spread evenly, other parameters as
    they are. In the project's own row samples lie where they lie."""

    shards: int
    slices: int
    own: bool = Field(description="whether these are the project's numbers")
    full_sample_epochs: float = Field(description="a full training, in sample-epochs")
    batch: Batch = Field(description="the deletions that were asked for, or a single one")
    month: Month | None = Field(description="the requests that were asked for")


class Costs(Report):
    """What `sisa plan --json` prints; null is what was not asked for."""

    run: RunCost = Field(description="what the next run would do")
    batch: Batch | None = Field(description="--what-if")
    month: Month | None = Field(description="--rate and --window")
    settings: tuple[Setting, ...] | None = Field(description="shards × slices, with either of them")


def costs(
    workspace: Workspace,
    sample_ids: Collection[str] = (),
    *,
    deletions: int | None = None,
    rate: float | None = None,
    window: timedelta | None = None,
) -> Costs:
    """``deletions``: how many random ones to expect in one batch. ``rate``: requests a day, retrained together when a
    ``window`` closes; neither without the other.

    Raises what ``next_run`` and ``run_cost`` raise; SisaError when there are fewer samples than ``deletions``.
    """
    following = next_run(workspace, sample_ids)
    run = run_cost(workspace, following)
    samples = sum(plan.retained for plan in following.plans)
    if deletions is not None and deletions > samples:
        raise SisaError(f"{deletions} deletions are asked about, only {samples} samples are trained on")
    epochs = following.plans[0].recipe.training.epochs_per_slice
    own = [plan.samples for plan in following.plans]
    days = None if window is None else window / timedelta(days=1)

    def setting(shards: int, slices: int) -> Setting:
        is_own = (shards, slices) == (len(own), len(own[0]))
        sizes = own if is_own else cost.even(samples, shards, slices)
        return Setting(
            shards=shards,
            slices=slices,
            own=is_own,
            full_sample_epochs=cost.full(sizes, epochs),
            batch=batch(sizes, epochs, deletions or 1, run.speed),
            month=None if rate is None or days is None else month(sizes, epochs, rate, days, run.speed),
        )

    here = setting(len(own), len(own[0]))
    asked = deletions is not None or here.month is not None
    table = {*product(COUNTS, COUNTS), (here.shards, here.slices)}
    return Costs(
        run=run,
        batch=None if deletions is None else here.batch,
        month=here.month,
        settings=tuple(setting(*each) for each in sorted(table)) if asked else None,
    )


def batch(sizes: cost.Sizes, epochs: int, deletions: int, speed: Speed | Absent) -> Batch:
    expected = cost.expected(sizes, epochs, cost.batch(deletions))
    return Batch(
        deletions=deletions,
        shards=expected.shards,
        slices=expected.slices,
        sample_epochs=expected.sample_epochs,
        share=expected.sample_epochs / cost.full(sizes, epochs),
        minutes=minutes_at(speed, expected.sample_epochs),
    )


def month(sizes: cost.Sizes, epochs: int, rate: float, days: float, speed: Speed | Absent) -> Month:
    times = cost.retrainings(rate, days, MONTH)
    sample_epochs = times * cost.expected(sizes, epochs, cost.window(rate * days)).sample_epochs
    return Month(
        rate=rate,
        window_days=days,
        retrainings=times,
        sample_epochs=sample_epochs,
        full_trainings=sample_epochs / cost.full(sizes, epochs),
        minutes=minutes_at(speed, sample_epochs),
        mean_wait_days=cost.mean_wait(rate, days),
    )
