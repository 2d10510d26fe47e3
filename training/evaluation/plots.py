"""Plots: rows of numbers to SVG, which takes its colours from the page (light, dark, printed) or brings them along."""

from __future__ import annotations

import itertools
from collections import Counter
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


def svg(spec: Spec, label: str) -> str:
    """An SVG element to stand in a page, with ``label`` for who cannot see it."""
    fit = {"type": "fit", "contains": "padding"}
    drawn: str = vl_convert.vegalite_to_svg(
        {"width": WIDTH, "height": HEIGHT, "autosize": fit, "config": CONFIG, **spec}, allowed_base_urls=[]
    )
    element = drawn[drawn.index("<svg") :]
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def picture(spec: Spec, label: str) -> str:
    """The same as an SVG file, which brings its colours along and follows a reader's light or dark."""
    palette = (Path(__file__).parent / "palette.css").read_text(encoding="utf-8")
    head, rest = svg(spec, label).split(">", 1)
    return f"{head}><style>{palette}svg {{ background: var(--paper); }}</style>{rest}\n"


def field(name: str, title: str | None = None, kind: str = "quantitative", **more: Any) -> Spec:
    return {"field": name, "type": kind, "title": title, **more}


def whole_numbers(rows: Rows, name: str, ticks: int = 8) -> Spec:
    """An axis that is marked at whole numbers, at most ``ticks`` of them."""
    low, high = (int(pick(row[name] for row in rows)) for pick in (min, max))
    return {"values": list(range(low, high + 1, (high - low) // ticks + 1)), "format": "d"}


def loss_curves(rows: Rows) -> Spec:
    """``rows``: shard, epoch, loss."""
    few = len({row["shard"] for row in rows}) <= len(SERIES)
    colour = {"color": field("shard", kind="nominal", scale={"range": SERIES})} if few else {"detail": field("shard")}
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 1 if few else 0.5},
        "encoding": {
            "x": field("epoch", "epoch, all slices", axis=whole_numbers(rows, "epoch")),
            "y": field("loss", "training loss", scale={"zero": False}),
            **colour,
        },
    }


def confusion(pairs: Sequence[tuple[str, str]], classes: Sequence[str]) -> Spec:
    """``pairs``: actual and predicted class of every test sample."""
    counts, of_class = Counter(pairs), Counter(actual for actual, _ in pairs)
    rows = [
        {"actual": actual, "predicted": predicted, "share": counts[actual, predicted] / max(of_class[actual], 1)}
        for actual, predicted in itertools.product(classes, classes)
    ]
    few = len(classes) <= 20  # names and numbers of more would not be readable
    axis: Spec = {"labels": few, "ticks": False, "domain": False, "grid": False, "labelLimit": 70}
    encoding = {
        "x": field("predicted", "predicted", "nominal", sort=list(classes), axis={**axis, "labelAngle": -45}),
        "y": field("actual", "actual", "nominal", sort=list(classes), axis=axis),
    }
    cells = {
        "mark": {"type": "rect", "color": SERIES[0]},
        "encoding": {"opacity": field("share", legend=None, scale={"domain": [0, 1], "range": [0.04, 1]})},
    }
    numbers = {
        "transform": [{"filter": "datum.share >= 0.005"}, {"calculate": "100 * datum.share", "as": "percent"}],
        "mark": {"type": "text", "fontSize": 9},
        "encoding": {
            "text": field("percent", format=".0f"),
            "color": {"condition": {"test": "datum.share > 0.65", "value": "var(--on-series)"}, "value": "var(--ink)"},
        },
    }
    return {
        "data": {"values": rows},
        "height": 330,
        "encoding": encoding,
        "layer": [cells, *([numbers] if few else [])],
    }


def reliability(rows: Rows) -> Spec:
    """``rows``: aggregation, confidence, accuracy, samples."""
    unit = {"domain": [0, 1]}
    diagonal = {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]}
    return {
        "encoding": {
            "x": field("confidence", "confidence", scale=unit, axis={"tickCount": 5}),
            "y": field("accuracy", "accuracy", scale=unit, axis={"tickCount": 5}),
        },
        "layer": [
            {"data": diagonal, "mark": GUIDE},
            {
                "data": {"values": rows},
                "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 1.5},
                "encoding": {"color": field("aggregation", kind="nominal")},
            },
        ],
    }


def roc(rows: Rows) -> Spec:
    """``rows``: attack, fpr, tpr. Both axes logarithmic: what matters is on the left."""
    lowest = min(row["fpr"] for row in rows)
    log = {"type": "log", "domain": [lowest, 1], "nice": False, "clamp": True}
    ticks: Spec = {"values": [tick for tick in (0.0001, 0.001, 0.01, 0.1, 1) if tick >= lowest], "format": "~g"}
    return {
        "height": HEIGHT + 15 * len({row["attack"] for row in rows}),  # a line of legend each
        "encoding": {
            "x": field("fpr", "mistaken for trained on (FPR)", scale=log, axis=ticks),
            "y": field("tpr", "recognised (TPR)", scale=log, axis=ticks),
        },
        "layer": [
            {"data": {"values": [{"fpr": lowest, "tpr": lowest}, {"fpr": 1, "tpr": 1}]}, "mark": GUIDE},
            {
                "data": {"values": [row for row in rows if row["tpr"] > 0]},  # 0 has no logarithm
                "mark": {"type": "line", "strokeWidth": 1.5, "interpolate": "step-after"},
                "encoding": {"color": field("attack", kind="nominal", legend={"columns": 1})},
            },
        ],
    }


def shard_count(rows: Rows) -> Spec:
    """``rows``: shards; mean, vote and the lowest and highest of each."""
    long = [
        {
            "shards": row["shards"],
            "aggregation": name,
            "accuracy": row[name],
            "lowest": row[f"{name}_lowest"],
            "highest": row[f"{name}_highest"],
        }
        for row in rows
        for name in ("mean", "vote")
    ]
    x = field("shards", "number of shards", axis=whole_numbers(rows, "shards"))
    colour = field("aggregation", kind="nominal", legend={"symbolOpacity": 1, "symbolType": "stroke"})
    return {
        "data": {"values": long},
        "encoding": {"x": x, "color": colour},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.15},
                "encoding": {"y": field("lowest", "accuracy", scale={"zero": False}), "y2": {"field": "highest"}},
            },
            {
                "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 1.5},
                "encoding": {"y": field("accuracy", "accuracy", scale={"zero": False})},
            },
        ],
    }


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


def certified(rows: Rows) -> Spec:
    """``rows``: poisoned_shards, accuracy."""
    return bars(rows, field("poisoned_shards", "poisoned shards", "ordinal"), "accuracy", "accuracy that is certain")


def agreement(rows: Rows) -> Spec:
    """``rows``: votes, samples, accuracy: the bars are samples, the numbers on them the share that is right."""
    return bars(rows, field("votes", "votes for the winner", "ordinal"), "samples", "test samples")


def shards(rows: Rows) -> Spec:
    """``rows``: shard, accuracy."""
    return bars(rows, field("shard", "shard", "ordinal"), "accuracy", "accuracy alone")


def bars(rows: Rows, x: Spec, height: str, title: str) -> Spec:
    """Bars with the accuracy written above."""
    numbered = len(rows) <= 12
    text = {"mark": {"type": "text", "dy": -6}, "encoding": {"text": field("accuracy", format=".3f")}}
    return {
        "data": {"values": rows},
        "encoding": {"x": {**x, "axis": {"labelAngle": 0}}, "y": field(height, title)},
        "layer": [{"mark": {"type": "bar"}}, *([text] if numbered else [])],
    }
