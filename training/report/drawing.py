"""Vega-Lite to SVG, which takes its colours from the page (light, dark, printed) or brings them along."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import vl_convert

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

WIDTH, HEIGHT = 340, 260  # CSS pixels, all in all: what a telephone shows without making the letters smaller
SERIES = [f"var(--series-{number})" for number in range(1, 7)]
GUIDE: Spec = {"type": "line", "color": "var(--muted)", "strokeDash": [3, 3], "strokeWidth": 1}
CONFIG: Spec = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--line)",
        "gridOpacity": 0.6,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "orient": "bottom",
        "title": None,
        "labelFontSize": 11,
        "labelLimit": 320,
        "columns": 3,
    },
    "range": {"category": SERIES},
    "text": {"color": "var(--ink)", "fontSize": 10},
    "bar": {"color": SERIES[0]},
    "line": {"color": SERIES[0]},
    "point": {"color": SERIES[0]},
}


def field(name: str, title: str | None = None, kind: str = "quantitative", **more: Any) -> Spec:
    """A column as an encoding takes it."""
    return {"field": name, "type": kind, "title": title, **more}


def svg(spec: Spec, label: str) -> str:
    """An SVG element to stand in a page, with ``label`` for those who cannot see it."""
    fit = {"type": "fit", "contains": "padding"}
    drawn: str = vl_convert.vegalite_to_svg(
        {"width": WIDTH, "height": HEIGHT, "autosize": fit, "config": CONFIG, **spec}, allowed_base_urls=[]
    )
    element = drawn[drawn.index("<svg") :]
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def picture(spec: Spec, label: str) -> str:
    """The same as an SVG file, which brings its colours along and follows a reader's light or dark."""
    head, rest = svg(spec, label).split(">", 1)
    return f"{head}><style>{palette()}svg {{ background: var(--paper); }}</style>{rest}\n"


def palette() -> str:
    """The page's colours, light and dark, as CSS."""
    return (Path(__file__).parent / "palette.css").read_text(encoding="utf-8")


def light_colours() -> dict[str, str]:
    """The colours of a light page by the name that a spec has for them, as ``var(--ink)``."""
    light, _, _ = palette().partition("@media")
    return {f"var({name})": colour for name, colour in re.findall(r"(--[\w-]+): (#\w+);", light)}


def steps(rows: Rows, title: str, guide: float | None = None) -> Spec:
    """What a drill's steps came to. ``rows``: what, step, value and, where there is an interval, low and high."""
    order = list(dict.fromkeys(row["step"] for row in rows))
    shared = {
        "y": field("what", None, "nominal", sort=None, axis={"labelLimit": 330, "labelColor": "var(--ink)"}),
        "yOffset": field("step", kind="nominal", sort=order),  # what is the same would hide one another
        "color": field("step", kind="nominal", sort=order, scale={"domain": order, "range": SERIES[: len(order)]}),
    }
    line = {
        "data": {"values": [{"at": guide}]},
        "mark": {**GUIDE, "type": "rule"},
        "encoding": {"x": field("at", title)},
    }
    return {
        "data": {"values": rows},
        "width": 2 * WIDTH,
        "height": 80 + 44 * len({row["what"] for row in rows}),
        "layer": [
            *([line] if guide is not None else []),
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {"x": field("low", title), "x2": {"field": "high"}, **shared},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 0.9},
                "encoding": {"x": field("value", title, scale={"zero": False}), **shared},
            },
        ],
    }
