"""What a person should know of this generation, as one self-contained page and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from training.report.cells import ROWS, Cell, Notes, absent, in_words, parts
from training.report.classes import class_sentences, compare, shown
from training.report.drawing import svg
from training.report.drill_results import HEADS, DrillResult, columns_of, sentences_of, setting
from training.report.evidence import Evidence
from training.report.history import before
from training.report.plots import PLOTS, Plot, read_rows
from training.report.verdict import POISONED_LIST, verdict
from training.workspace import Workspace

TEMPLATES = Path(__file__).parent
FROM_SCRATCH = HEADS["retrained"]
NO_REFERENCE = (
    "none was trained for this generation; `sisa drill forget` trains one and compares the models byte for byte"
)


@dataclass
class Table:
    """The table before / after / retrained, with the reasons for what is absent as numbered notes."""

    columns: Mapping[str, Mapping[str, Cell]]
    notes: Notes = field(default_factory=Notes)

    @cached_property
    def rows(self) -> list[tuple[str, list[tuple[str, str, int | None]]]]:
        """Label and, for each column, the number, what goes with it, and the number of its note."""
        rows = []
        for name, label, kind in ROWS:
            cells = [column[name] for column in self.columns.values()]
            rows.append((label, [(*parts(cell, kind), self.notes.number(cell)) for cell in cells]))
        return rows


@dataclass(frozen=True)
class Figure:
    """A plot as it stands in the page; ``svg``: None where there was nothing to draw."""

    title: str
    caption: str
    svg: Markup | None


def draw(workspace: Workspace) -> list[Figure]:
    """Every plot of the report."""
    return [figure(plot, workspace) for plot in PLOTS]


def figure(plot: Plot, workspace: Workspace) -> Figure:
    rows = read_rows(workspace, plot)
    if not rows:
        return Figure(plot.title, "There is nothing to draw.", None)
    return Figure(plot.title, plot.caption, Markup(svg({**plot.spec, "data": {"values": rows}}, plot.title)))


def render(
    now: Evidence,
    history: Sequence[Evidence],
    drills: Sequence[DrillResult],
    figures: Sequence[Figure],
    *,
    models: Sequence[str],
    aggregation: str,
) -> tuple[str, str]:
    """The report as HTML and as Markdown; ``history``: the evidence before and ``now``, as it is remembered.

    ``models``: SHA-256, in hex, of those that it is about; a service shows it with these alone. ``aggregation``: of
    their answers.
    """
    previous = history[-2].generation if now.generation is not None and len(history) > 1 else None
    classes = compare(() if previous is None else history[-2].classes, now.classes, aggregation)
    columns = {
        "before": before(history, now),
        "now" if previous is None else "after": now.cells,
        FROM_SCRATCH: absent(NO_REFERENCE),
    }
    page = {
        "title": "Unpublished models" if now.generation is None else f"Generation {now.generation}",
        "now": now,
        "models": models,
        "previous": previous,
        "verdict": [*verdict(now), *class_sentences(classes)],
        "aggregation": aggregation,
        "classes": shown(classes),
        "all_classes": len(classes),
        "poisoned_list": POISONED_LIST,
        "table": Table(columns),
        "drills": [(drill, setting(drill), Table(drill_columns(drill)), sentences_of(drill)) for drill in drills],
        "figures": figures,
    }
    templates = environment()
    html, markdown = (templates.get_template(name).render(page) for name in ("report.html.j2", "report.md.j2"))
    return html, markdown


def drill_columns(drill: DrillResult) -> dict[str, Mapping[str, Cell]]:
    """A drill's columns by what stands above them."""
    return {HEADS[step]: column for step, column in columns_of(drill).items()}


def environment(*folders: Path) -> Environment:
    """Templates in which a name that is not given is an error, and nothing from outside becomes markup.

    ``folders``: where they are looked for, before those of the report.
    """
    templates = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    )
    templates.filters["code"] = code
    templates.filters["in_words"] = lambda cell: in_words(cell, "share")
    return templates


def code(text: str) -> Markup:
    """Text for the page, what stands in `backticks` as code."""
    return Markup(re.sub(r"`(.*?)`", r"<code>\1</code>", str(escape(text))))
