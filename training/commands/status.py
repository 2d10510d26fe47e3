"""`sisa status`: what is served, what is open, and whether everything is served as it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import Json, guarded, print_json, project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from training.forgetting.status import OpenRequest, Served, Status

OPEN = 3
SHOWN = 10  # differences

EXAMPLES = """Examples:
  sisa status                    what is published, which requests are open
  sisa status --full             read every file: finds also an edit that left
                                 a file's size and times as they were
  sisa status --json             one JSON object for a script

Exit status: 0 when everything is served as it is asked for; 1 when that
cannot be told, since parameters, ledger or suppression memory are damaged;
2 when the command is typed wrongly; 3 when a request is open, a shard does
not answer with all its slices, or what is published is not up to date."""

status = typer.Typer()


@status.command("status", epilog=EXAMPLES)
@guarded
def show_status(
    *,
    full: Annotated[bool, typer.Option("--full", help="read every file instead of its size and times")] = False,
    as_json: Json = False,
) -> None:
    """What is served, which requests are open, and whether it is up to date.

    A request is "requested" once it is in the ledger, "withdrawn" when no model
    that saw its samples answers, "retrained" when new models are there, and done
    when they are published. One that is open for longer than deadline_days
    (params.yaml, section requests) is overdue. Nothing is written.
    """
    from datetime import UTC, datetime

    from training.forgetting.status import read_status

    now = datetime.now(UTC)
    found = read_status(project(), now, full=full)
    if as_json:
        print_json(found)
    else:
        show(found, now)
    if not found.as_asked:
        raise typer.Exit(OPEN)


def show(found: Status, now: datetime) -> None:
    """In lines, and a table of what is open."""
    from training.stages.run import shortened

    if found.served is not None:
        for line in served_lines(found.served, now):
            print(line)
    if found.open:
        print_table(found.open)
        print(f"Open: {len(found.open)}, overdue after {found.deadline_days:g} days: {found.overdue}.")
    for each in found.not_entered:
        print(f"{each.request}: {each.samples} samples that no run has read yet.")
    for service in found.unconfirmed:
        print(f"Not confirmed: {service} may still answer with a model that was withdrawn.")
    for sentence in found.differs[:SHOWN]:
        print(f"Not up to date: {shortened(sentence)}.")
    if len(found.differs) > SHOWN:
        print(f"Not up to date: {len(found.differs) - SHOWN} more (--json names them all).")
    print(f"{found.compared[0].upper()}{found.compared[1:]}.")
    print(
        "Everything is served as it is asked for."
        if found.as_asked
        else "To be done: run `dvc repro`, which publishes at its end."
    )


def served_lines(served: Served, now: datetime) -> Iterator[str]:
    from training.forgetting.status import in_words

    present = served.turnout
    who = f"{present.answered} of {present.of} shards answer, at least {served.needed} must"
    yield f"Generation {served.generation}: {who}."
    if not served.quorum:
        yield "Predictions are refused: too few shards answer (serve.quorum)."
    for each in served.away:
        since = "" if each.since is None else f" for {in_words(now - each.since)}"
        what = "pending" if each.earlier_slice is None else f"answers from its slice {each.earlier_slice}"
        yield f"Shard {each.shard}: {what}{since}."


def print_table(requests: Sequence[OpenRequest]) -> None:
    from datetime import timedelta

    from rich.console import Console
    from rich.table import Column, Table

    from training.forgetting.status import in_words

    table = Table(
        Column("request", no_wrap=True), "samples", "by", "reference", "age", "step", "shards", title="Open requests"
    )
    for each in requests:
        age = in_words(timedelta(seconds=each.age_seconds)) + (" (overdue)" if each.overdue else "")
        shards = ", ".join(map(str, each.shards))
        table.add_row(each.request, f"{each.samples:,}", each.actor, each.reference or "", age, each.step, shards)
    Console().print(table)
