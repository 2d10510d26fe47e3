"""A drill's result as a person sees it on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.report.cells import ROWS, Notes
from training.report.drill_results import DrillResult, columns_of


def show(result: DrillResult, console: Console) -> None:
    """The columns beside each other, and below them why a cell is absent."""
    columns, notes = columns_of(result), Notes()
    table = Table("", "before", "after", "retrained from scratch", title=result.title)
    for row in ROWS:
        table.add_row(row.label, *(notes.mark(column[row.name], row.kind) for column in columns.values()))
    console.print(table)
    for line in notes.lines():
        console.print(line, highlight=False, markup=False)
    if result.identical is not None:
        same = result.identical
        console.print(
            f"byte for byte the same after forgetting as from scratch: {same.shards} of {same.of} shards",
            highlight=False,
        )
