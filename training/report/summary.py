"""The closing table of ``make repro``: what the last run reached, and what it cost."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.data.summary import read_summary
from training.evaluation.reports import Absent, read_metrics
from training.publish.history import read_history
from training.report.cells import OF_THE_COST, ROWS, in_words
from training.report.evidence import costs, last_published
from training.workspace import Workspace


def summary(workspace: Workspace) -> None:
    """Print it. Raises DamagedError when a report is missing or damaged, LedgerError when the ledger is."""
    metrics = read_metrics(workspace.report("metrics.json"))
    partition = read_summary(workspace.partition_file)
    entries = read_history(workspace)
    published = last_published(workspace, entries)
    title = "Not published" if isinstance(published, Absent) else f"Generation {published.generation}"
    table = Table("on the test set", "mean", "vote", title=title)
    for name in type(metrics.mean).model_fields:
        table.add_row(name.replace("_", " "), *(number(getattr(each, name)) for each in (metrics.mean, metrics.vote)))
    console = Console()
    console.print(table)
    console.print(
        f"{len(partition.retained)} shards, {sum(partition.retained):,} samples retained, "
        f"{partition.forgotten.listed:,} ids on the forget lists"
    )
    if isinstance(published, Absent):
        console.print(published.absent)
    else:
        cells = costs(entries)
        for row in ROWS:
            if row.name in OF_THE_COST:
                console.print(f"{row.label}: {in_words(cells[row.name], row.kind)}")
    # Not by the console: a path that it wraps cannot be copied.
    print(f"Report: {workspace.report('report.html')}")


def number(value: float | Absent) -> str:
    return "–" if isinstance(value, Absent) else f"{value:.4f}"
