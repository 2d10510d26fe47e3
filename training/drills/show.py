"""A drill's result as a person sees it on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.report.cells import ROWS, Notes
from training.report.drill_results import HEADS, DrillResult, columns_of, sentences_of


def show(result: DrillResult, console: Console) -> None:
    """The columns beside each other, and below them why a cell is absent."""
    columns, notes = columns_of(result), Notes()
    table = Table("", *(HEADS[step] for step in columns), title=result.title)
    for row in ROWS:
        table.add_row(row.label, *(notes.mark(column[row.name], row.kind) for column in columns.values()))
    console.print(table)
    for line in notes.lines():
        console.print(line, highlight=False, markup=False)
    if result.drill == "forget" and result.control is not None:
        control = Table("", HEADS["after"], HEADS["cheated"], "notices", title="Models that did not forget")
        for each in result.control.lines:
            control.add_row(each.name, each.after, each.cheated, "yes" if each.told else "no")
        console.print(control)
    for sentence in sentences_of(result):
        console.print(sentence, highlight=False, markup=False)
