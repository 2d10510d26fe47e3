"""What each plot looks like, in Vega-Lite: everything but the rows, which are those of a CSV file as they are."""

from __future__ import annotations

from training.report.drawing import GUIDE, HEIGHT, SERIES, Spec, field

MANY_SHARDS = len(SERIES)  # of more, their curves would share colours
MANY_BARS = 12  # of more, the numbers on them would run into each other
MANY_CLASSES = 20  # of more, names and numbers would not be readable

WHOLE_NUMBERS = "datum.value == round(datum.value)"
POWERS_OF_TEN = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"


def marked(where: str, number: str) -> Spec:
    """An axis with marks only where the expression ``where`` holds, their numbers in the format ``number``."""
    width = {"condition": {"test": where, "value": 1}, "value": 0}
    return {"labelExpr": f"{where} ? format(datum.value, '{number}') : ''", "gridWidth": width, "tickWidth": width}


def loss() -> Spec:
    """Columns: filename, epoch, loss."""
    shard = "toNumber(replace(replace(datum.filename, /^.*shard-/, ''), '.csv', ''))"  # so that 2 is before 10
    curve = {"type": "line", "strokeWidth": 1.5}
    return {
        "transform": [
            {"calculate": shard, "as": "shard"},
            {"joinaggregate": [{"op": "distinct", "field": "shard", "as": "shards"}]},
        ],
        "encoding": {
            "x": field("epoch", "epoch, all slices", axis=marked(WHOLE_NUMBERS, "d")),
            "y": field("loss", "training loss", scale={"zero": False}),
        },
        "layer": [
            {
                "transform": [{"filter": f"datum.shards <= {MANY_SHARDS}"}],
                "mark": curve,
                "encoding": {"color": field("shard", kind="nominal", scale={"range": SERIES})},
            },
            {
                "transform": [{"filter": f"datum.shards > {MANY_SHARDS}"}],
                "mark": {**curve, "opacity": 0.5},
                "encoding": {"detail": field("shard", kind="nominal")},
            },
        ],
    }


def bars(x: str, x_title: str, y: str, y_title: str) -> Spec:
    """Bars of the column ``y`` with the column accuracy written above."""
    number = {"mark": {"type": "text", "dy": -6}, "encoding": {"text": field("accuracy", format=".3f")}}
    few = [{"joinaggregate": [{"op": "count", "as": "bars"}]}, {"filter": f"datum.bars <= {MANY_BARS}"}]
    return {
        "transform": [{"calculate": f"toNumber(datum.{x})", "as": x}],  # else 10 would stand before 2
        "encoding": {"x": field(x, x_title, "ordinal", axis={"labelAngle": 0}), "y": field(y, y_title)},
        "layer": [{"mark": "bar"}, {"transform": few, **number}],
    }


def roc() -> Spec:
    """Columns: attack, fpr, tpr. Both axes logarithmic: what matters is on the left."""
    log: Spec = {"scale": {"type": "log", "domainMax": 1, "nice": False}, "axis": marked(POWERS_OF_TEN, "~g")}
    return {
        "height": HEIGHT + 60,  # a line of legend for each attack
        "transform": [
            {"filter": "!test(/own shard confidence$/, datum.attack)"},
            {"filter": "datum.fpr > 0 && datum.tpr > 0"},  # 0 has no logarithm
        ],
        "encoding": {"x": field("fpr", "non-members mistaken for members (FPR)", **log)},
        "layer": [
            {"mark": GUIDE, "encoding": {"y": field("fpr", "members recognised (TPR)", **log)}},
            {
                "mark": {"type": "line", "strokeWidth": 1.5, "interpolate": "step-after"},
                "encoding": {
                    "y": field("tpr", "members recognised (TPR)", **log),
                    "color": field("attack", kind="nominal", legend={"columns": 1}),
                },
            },
        ],
    }


def confusion(predicted: str) -> Spec:
    """Columns: actual and ``predicted``, the class of every test sample; each cell is a share of the actual class."""
    cells: Spec = {"mark": {"type": "rect", "color": SERIES[0]}}
    opacity = {"domain": [0, 1], "range": [0.04, 1]}
    axis: Spec = {"ticks": False, "domain": False, "grid": False, "labelLimit": 70, "labelOverlap": True}
    numbers = {
        "transform": [
            {"joinaggregate": [{"op": "distinct", "field": "actual", "as": "classes"}], "groupby": ["rev"]},
            {"filter": f"datum.classes <= {MANY_CLASSES} && datum.share >= 0.005"},
            {"calculate": "100 * datum.share", "as": "percent"},
        ],
        "mark": {"type": "text", "fontSize": 9},
        "encoding": {
            "text": field("percent", format=".0f"),
            "color": {"condition": {"test": "datum.share > 0.65", "value": "var(--on-series)"}, "value": "var(--ink)"},
        },
    }
    return {
        "height": 330,
        "transform": [
            {"aggregate": [{"op": "count", "as": "samples"}], "groupby": ["rev", "actual", predicted]},
            {
                "joinaggregate": [{"op": "sum", "field": "samples", "as": "of_class"}],
                "groupby": ["rev", "actual"],
            },
            {"calculate": "datum.samples / datum.of_class", "as": "share"},
        ],
        "encoding": {
            "x": field(predicted, "predicted", "nominal", axis={**axis, "labelAngle": -45}),
            "y": field("actual", "actual", "nominal", axis=axis),
        },
        "layer": [
            {**cells, "encoding": {"opacity": field("share", legend=None, scale=opacity)}},
            # Nothing to see: a class that was never predicted has its place all the same.
            {
                "mark": {"type": "rect", "color": SERIES[0], "opacity": 0},
                "encoding": {"x": field("actual", "predicted", "nominal")},
            },
            numbers,
        ],
    }


def reliability() -> Spec:
    """Columns: aggregation, confidence, accuracy."""
    unit: Spec = {"scale": {"domain": [0, 1]}, "axis": {"tickCount": 5}}
    ends = [{"confidence": end, "accuracy": end} for end in (0, 1)]
    return {
        "encoding": {"x": field("confidence", "confidence", **unit), "y": field("accuracy", "accuracy", **unit)},
        "layer": [
            {"data": {"values": ends}, "mark": GUIDE},
            {
                "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 1.5},
                "encoding": {"color": field("aggregation", kind="nominal", legend={"symbolType": "stroke"})},
            },
        ],
    }


def shard_count() -> Spec:
    """Columns: shards; mean, vote and the lowest and highest of each."""
    beyond = {end: f"toNumber(datum[datum.aggregation + '_{end}'])" for end in ("lowest", "highest")}
    colour = field("aggregation", kind="nominal", legend={"symbolOpacity": 1, "symbolType": "stroke"})
    near: Spec = {"scale": {"zero": False}}
    return {
        "transform": [
            {"fold": ["mean", "vote"], "as": ["aggregation", "accuracy"]},
            {"calculate": "toNumber(datum.accuracy)", "as": "accuracy"},
            *({"calculate": expression, "as": end} for end, expression in beyond.items()),
        ],
        "encoding": {
            "x": field("shards", "number of shards", axis=marked(WHOLE_NUMBERS, "d")),
            "color": colour,
        },
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.15},
                "encoding": {"y": field("lowest", "accuracy", **near), "y2": {"field": "highest"}},
            },
            {
                "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 1.5},
                "encoding": {"y": field("accuracy", "accuracy", **near)},
            },
        ],
    }
