"""The plots as DVC takes them: ``.dvc/plots/*.json`` and the section ``plots``, the last one of dvc.yaml.

``python -m training.report.dvc_plots`` writes both.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from training.files import write_if_changed
from training.report.drawing import CONFIG, GUIDE, HEIGHT, WIDTH, Spec, field, light_colours
from training.report.plots import PLOTS, Plot

REPOSITORY = Path(__file__).parents[2]
REVISION = field("rev", kind="nominal")
# Without all of these, the legend of a line with points on it shows neither.
STROKES = {
    "symbolType": "stroke",
    "symbolOpacity": 1,
    "symbolFillColor": "transparent",
    "symbolStrokeColor": "var(--ink)",
}
DASHES = field("rev", kind="nominal", legend=STROKES)
HEAD = "plots: # drawn from training/report/plots.py; written by `python -m training.report.dvc_plots`\n"


def dvc_plots() -> tuple[dict[str, str], str]:
    """Templates by the name of their file, and the section ``plots``, the last one of dvc.yaml."""
    templates = {f"{plot.name}.json": json.dumps(template(plot), indent=2) + "\n" for plot in PLOTS}
    return templates, HEAD + yaml.safe_dump([entry(plot) for plot in PLOTS], sort_keys=False, indent=2, width=120)


def entry(plot: Plot) -> dict[str, object]:
    """What dvc.yaml says of a plot."""
    path = f"reports/{plot.source}"
    shown = {"title": plot.title, "template": plot.name, "x": plot.x}
    if path.endswith(".csv"):
        return {plot.title: {**shown, "y": {path: plot.y}}}
    return {path: {**shown, "y": plot.y}}  # a folder: DVC draws a plot for each file in it


def template(plot: Plot) -> Spec:
    """A spec with anchors where DVC fills something in, several revisions told apart, in a light page's colours.

    No size is left for DVC to choose: it would then also take away the name of each row's file.
    """
    spec: Spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": "<DVC_METRIC_TITLE>",
        "data": {"values": "<DVC_METRIC_DATA>"},
        "config": CONFIG,
        **side_by_side(plot),
    }
    text = json.dumps(spec)
    for name, colour in light_colours().items():
        text = text.replace(name, colour)
    coloured: Spec = json.loads(text)
    return coloured


def side_by_side(plot: Plot) -> Spec:
    """The spec for rows of several revisions."""
    spec = plot.spec
    if plot.revisions == "plots":
        return {
            "transform": spec["transform"],
            "facet": {"column": REVISION},
            "spec": {"width": WIDTH, "height": HEIGHT, **{name: spec[name] for name in spec if name != "transform"}},
        }
    layers = [{**layer, "encoding": {**channels(plot, layer), **layer.get("encoding", {})}} for layer in spec["layer"]]
    return {"width": WIDTH, "height": HEIGHT, **spec, "layer": layers}


def channels(plot: Plot, layer: Spec) -> Spec:
    """What tells the marks of several revisions apart."""
    mark = layer["mark"]
    if mark == GUIDE:
        return {}
    if plot.revisions == "bars":
        return {"xOffset": REVISION, "color": REVISION}
    return {"detail": REVISION} if mark["type"] == "area" else {"detail": REVISION, "strokeDash": DASHES}


def main() -> None:
    """Write both where they are kept."""
    templates, section = dvc_plots()
    for name, content in templates.items():
        write_if_changed(REPOSITORY / ".dvc/plots" / name, content.encode())
    path = REPOSITORY / "dvc.yaml"
    stages, _, _ = path.read_text(encoding="utf-8").partition("\nplots:")
    write_if_changed(path, f"{stages}\n{section}".encode())


if __name__ == "__main__":
    main()
