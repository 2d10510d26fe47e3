"""`sisa plan`: what forgetting would cost, before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import Json, guarded, print_json, project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from training.evaluation.reports import Absent
    from training.forgetting.plan import RunCost
    from training.forgetting.what_if import Costs, Setting

EXAMPLES = """Examples:
  sisa plan                      what `dvc repro` would do now
  sisa plan 123 456              the same if these were listed as well
  sisa plan --what-if 10         ten random deletions in one batch
  sisa plan --rate 20 --window 7d
                                 a month of 20 requests a day, retrained
                                 7 days after the first one came
  sisa plan 123 --json           one JSON object for a script

Exit status: 0; 1 when an id is unknown or files are missing; 2 when the
command is typed wrongly."""

WIDTH = 100  # of the widest table
COST = ("sample-epochs", "of a full training", "minutes")

plan = typer.Typer()


@plan.command("plan", epilog=EXAMPLES)
@guarded
def show_plan(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="IDS", help="samples to forget, beside those asked for already")
    ] = None,
    *,
    what_if: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="expected cost of K random deletions in one batch")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="PER_DAY", help="expected cost of a month of so many requests a day")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="with --rate: from a first request to the retraining, as 12h or 7d"),
    ] = None,
    as_json: Json = False,
) -> None:
    """What forgetting would cost: shards, slices, sample-epochs and minutes. Nothing is written.

    Without IDS it is what the next `dvc repro` would do by today's lists,
    requests and parameters. What changed in the source since the last partition
    is not seen.

    A sample-epoch is one sample seen once in training. Minutes are those of
    training alone, at the speed that was measured when slices were trained.

    With --what-if or --rate, a table says what the same would cost with other
    numbers of shards and slices.
    """
    from rich.console import Console

    from training.forgetting.what_if import costs
    from training.forgetting.window import parse_window

    if (rate is None) != (window is None):
        raise typer.BadParameter("--rate and --window belong together: requests a day, and when they are retrained")
    if rate is not None and not 0 < rate < float("inf"):
        raise typer.BadParameter(f"--rate: expected requests a day, above 0, found {rate}")
    try:
        days = None if window is None else parse_window(window)
    except ValueError as error:
        raise typer.BadParameter(f"--window: {error}") from error
    found = costs(project(), ids or (), deletions=what_if, rate=rate, window=days)
    if as_json:
        print_json(found)
    else:
        console = Console()
        if not console.is_terminal:
            console.width = max(console.width, WIDTH)
        show(found, console)


def show(found: Costs, console: Console) -> None:
    """Tables of at most 100 columns, and in words what they cannot say."""
    from rich.table import Table

    show_run(found.run, console)
    if found.batch is not None:
        few = found.batch
        table = Table("shards", "slices", *COST, title=f"Random deletions in one batch, expected: {few.deletions:,}")
        amounts = (number(few.sample_epochs), f"{few.share:.1%}", minutes(few.minutes))
        table.add_row(number(few.shards), number(few.slices), *amounts)
        console.print(table)
    if found.month is not None:
        many = found.month
        title = (
            f"30 days of {many.rate:g} requests a day, retrained {many.window_days:g} days after the first, expected"
        )
        table = Table("retrainings", "sample-epochs", "full trainings", "minutes", "days a request waits", title=title)
        amounts = (number(many.sample_epochs), number(many.full_trainings), minutes(many.minutes))
        table.add_row(number(many.retrainings), *amounts, number(many.mean_wait_days))
        console.print(table)
    if found.settings is not None:
        show_settings(found.settings, console)


def show_run(run: RunCost, console: Console) -> None:
    """The shards that would be retrained."""
    from rich.table import Table

    from training.chain.plan import in_words

    table = Table("shard", "forgotten", "retained", "retrain", *COST[:2], title="The next run")
    for shard in run.shards:
        if shard.forgotten or shard.slices:
            full = shard.full_sample_epochs
            share = shard.sample_epochs / full if full else 0
            what = in_words(shard.slices) if shard.slices else "nothing"
            counts = (str(shard.shard), f"{shard.forgotten:,}", f"{shard.retained:,}")
            table.add_row(*counts, what, f"{shard.sample_epochs:,}", f"{share:.1%}")
    table.add_section()
    retained = sum(shard.retained for shard in run.shards)
    total = ("all", f"{run.forgotten:,}", f"{retained:,}", "", f"{run.sample_epochs:,}", f"{run.share:.1%}")
    table.add_row(*total)
    console.print(table)
    for sentence in sentences(run):
        console.print(sentence, highlight=False, markup=False)


def sentences(run: RunCost) -> Iterator[str]:
    """What the table cannot say."""
    from training.evaluation.reports import Absent

    if run.monitored:
        yield "forget.apply is false: lists are only monitored, so nothing is forgotten."
    if run.already_forgotten:
        yield f"Already forgotten: {run.already_forgotten:,} of the ids given."
    if not run.sample_epochs:
        yield "Nothing would be trained."
    elif isinstance(run.speed, Absent):
        yield f"Minutes are not known: {run.speed.absent}."
    else:
        pace = 1 / run.speed.seconds_per_sample_epoch
        yield (
            f"{minutes(run.minutes)} minutes of training, at {pace:,.0f} sample-epochs a second "
            f"({run.speed.device}, measured on {run.speed.slices} slices)."
        )


def show_settings(settings: Sequence[Setting], console: Console) -> None:
    """The same with other numbers of shards and slices."""
    from rich.table import Table

    deletions = settings[0].batch.deletions
    title = f"With other shards and slices (* as now), expected; {deletions:,} in one batch"
    monthly = ("30 days", "minutes") if settings[0].month is not None else ()
    table = Table("shards", "slices", "full", "deletions", "share", "minutes", *monthly, title=title)
    for each in settings:
        few = each.batch
        row = [f"{each.shards}{' *' if each.own else ''}", str(each.slices), number(each.full_sample_epochs)]
        row += [number(few.sample_epochs), f"{few.share:.1%}", minutes(few.minutes)]
        if each.month is not None:
            row += [number(each.month.sample_epochs), minutes(each.month.minutes)]
        table.add_row(*row)
    console.print(table)
    console.print("full: a full training, in sample-epochs, as deletions and 30 days; share: of that training.")
    console.print("Other numbers of shards and slices also change the accuracy.")


def number(value: float) -> str:
    """Three digits at least, large ones in millions."""
    if value >= 1e8:
        return f"{value / 1e6:,.0f} M"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def minutes(value: float | Absent) -> str:
    return number(value) if isinstance(value, float) else "–"
