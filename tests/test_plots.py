"""Plots: defined once, drawn by the report and by DVC."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import vl_convert
from conftest import Project
from written import TABLES, write_reports

from training.report.drawing import Rows, light_colours, picture, steps, svg
from training.report.dvc_plots import HEAD, REPOSITORY, dvc_plots, template
from training.report.plots import PLOTS, Plot, read_rows
from training.report.specs import MANY_BARS, MANY_CLASSES, MANY_SHARDS
from training.workspace import Workspace

BY_NAME = {plot.name: plot for plot in PLOTS}
each_plot = pytest.mark.parametrize("plot", PLOTS, ids=list(BY_NAME))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Reports of two shards, written by hand."""
    written = Workspace(tmp_path)
    write_reports(written, "release")
    return written


def drawn(name: str, rows: Rows) -> str:
    return svg({**BY_NAME[name].spec, "data": {"values": rows}}, "A <plot>")


def colours(picture: str) -> set[str]:
    return set(re.findall(r'(?:fill|stroke)="([^"]*)"', picture)) - {"none", "transparent"}


def texts(picture: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture)


@each_plot
def test_a_plot_takes_every_colour_from_the_page(plot: Plot, workspace: Workspace) -> None:
    picture = drawn(plot.name, read_rows(workspace, plot))
    assert picture.startswith('<svg role="img" aria-label="A &lt;plot&gt;"')
    assert len(colours(picture)) > 1
    assert all(colour.startswith("var(--") for colour in colours(picture)), colours(picture)
    assert " id=" not in picture  # ids of two plots in one page would clash
    assert float(re.findall(r'width="([\d.]+)"', picture)[0]) <= 345  # a telephone's width, less the margins
    assert not {"undefined", "NaN", "null"} & set(texts(picture))


def test_a_picture_that_stands_alone_brings_its_colours_along() -> None:
    rows = [{"what": "loss", "step": "before", "value": 0.7, "low": 0.6, "high": 0.8}]
    alone = picture(steps(rows, "AUC", guide=0.5), "Attacks")
    root = ElementTree.fromstring(alone)
    assert (root.tag, root.attrib["aria-label"]) == ("{http://www.w3.org/2000/svg}svg", "Attacks")
    used = set(re.findall(r"var\((--[\w-]+)\)", alone))
    assert {f"var({name})" for name in used} >= colours(alone) != set()
    assert used <= set(re.findall(r"(--[\w-]+):", alone))
    assert "prefers-color-scheme: dark" in alone


def test_curves_of_few_shards_have_a_colour_each_and_those_of_many_have_one() -> None:
    def losses(shards: int) -> Rows:
        return [
            {"filename": f"shard-{shard}.csv", "epoch": str(epoch), "loss": str(shard + epoch)}
            for shard in range(shards)
            for epoch in (1, 2)
        ]

    few, many = drawn("loss", losses(MANY_SHARDS)), drawn("loss", losses(MANY_SHARDS + 1))
    series = [{name for name in colours(each) if "series" in name} for each in (few, many)]
    assert [len(each) for each in series] == [MANY_SHARDS, 1]


def test_shards_are_in_the_order_of_their_numbers() -> None:
    rows = [{"shard": str(shard), "accuracy": "0.5"} for shard in range(11)]
    labels = [text for text in texts(drawn("shards", rows)) if text.isdecimal()]
    assert labels == [str(shard) for shard in range(11)]


@pytest.mark.parametrize(("bars", "numbers"), [(MANY_BARS, MANY_BARS), (MANY_BARS + 1, 0)])
def test_bars_bear_their_numbers_while_there_is_room(bars: int, numbers: int) -> None:
    rows = [{"shard": str(shard), "accuracy": "0.625"} for shard in range(bars)]
    assert texts(drawn("shards", rows)).count("0.625") == numbers


def test_a_cell_of_the_confusion_is_the_share_of_the_actual_class() -> None:
    # Three of a, two of them found; one of b, found; c is never predicted, and has its place all the same.
    pairs = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), ("c", "b")]
    rows = [{"actual": actual, "mean": mean, "vote": "a"} for actual, mean in pairs]
    shown = texts(drawn("confusion_mean", rows))
    assert sorted(text for text in shown if text.isdecimal()) == ["100", "100", "33", "67"]
    assert sorted(text for text in shown if text in "abc") == ["a", "a", "b", "b", "c", "c"]


def test_a_confusion_of_many_classes_has_no_numbers() -> None:
    rows = [{"actual": f"class {name}", "mean": f"class {name}"} for name in range(MANY_CLASSES + 1)]
    assert "100" not in texts(drawn("confusion_mean", rows))


@pytest.mark.parametrize(("epochs", "expected"), [(3, ["1", "2", "3"]), (20, [str(n) for n in range(0, 21, 2)])])
def test_an_axis_of_whole_numbers_is_marked_at_whole_numbers(epochs: int, expected: list[str]) -> None:
    rows = [{"filename": "shard-0.csv", "epoch": str(n + 1), "loss": str(2 - n / 20)} for n in range(epochs)]
    assert [text for text in texts(drawn("loss", rows)) if text.isdecimal()][: len(expected)] == expected


def test_the_roc_has_logarithmic_axes_and_nothing_below_what_the_samples_support() -> None:
    rows = [{"attack": "forget: loss", "fpr": str(rate), "tpr": str(rate**0.5)} for rate in (0.01, 0.1, 1.0)]
    zero = {"attack": "forget: loss", "fpr": "0.001", "tpr": "0.0"}  # has no logarithm
    shown = texts(drawn("roc", [zero, *rows]))
    assert [text for text in shown if text[0] in "01"] == ["0.01", "0.1", "1"] * 2


def test_the_roc_leaves_out_the_attack_that_knows_the_shard() -> None:
    rows = [{"attack": f"forget: {name}", "fpr": "0.1", "tpr": "0.2"} for name in ("loss", "own shard confidence")]
    shown = texts(drawn("roc", rows))
    assert "forget: loss" in shown
    assert "forget: own shard confidence" not in shown


def test_what_dvc_draws_is_written_from_the_reports_definitions() -> None:
    templates, section = dvc_plots()
    hint = "run `python -m training.report.dvc_plots`"
    committed = {path.name: path.read_text() for path in (REPOSITORY / ".dvc/plots").glob("*.json")}
    assert committed == templates, hint
    assert (REPOSITORY / "dvc.yaml").read_text().endswith(f"\n{section}"), hint
    assert section.startswith(HEAD)


def filled(plot: Plot, rows: Rows) -> dict[str, Any]:
    """What DVC makes of a template."""
    spec = json.loads(json.dumps(template(plot)).replace("<DVC_METRIC_TITLE>", plot.title))
    return {**spec, "data": {"values": rows}}


@each_plot
def test_dvc_shows_two_revisions_apart_and_in_colours_of_its_own(plot: Plot, workspace: Workspace) -> None:
    rows = [{**row, "rev": rev} for rev in ("HEAD", "workspace") for row in read_rows(workspace, plot)]
    # The oldest version there is here; DVC's pages take 5.2.
    picture = vl_convert.vegalite_to_svg(filled(plot, rows), vl_version="5.8", allowed_base_urls=[])
    shown = texts(picture)
    assert {"HEAD", "workspace", plot.title} <= set(shown)
    assert not {"undefined", "NaN", "null"} & set(shown)
    assert "var(" not in picture
    assert colours(picture) & set(light_colours().values())


@pytest.mark.pipeline
def test_dvc_finds_the_rows_of_every_plot(create: Callable[..., Project]) -> None:
    project = create("plots", sisa__shards=[0, 1]).with_git()
    for name, table in TABLES.items():
        path = project.folder / "reports" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table)
    project.run("dvc", "plots", "show", "--out", "shown")
    page = (project.folder / "shown/index.html").read_text()
    specs = [json.loads(found) for found in re.findall(r"var spec = (\{.*?\});\n", page, re.DOTALL)]
    titles = [spec["title"] for spec in specs]
    assert sorted(set(titles)) == sorted(plot.title for plot in PLOTS)
    assert titles.count("Loss by epoch") == 2  # DVC draws a plot for each file in a folder
    for spec in specs:
        assert vl_convert.vegalite_to_svg(spec, vl_version="5.8", allowed_base_urls=[]).count("<path") > 2
    shards = {row["filename"] for spec in specs if spec["title"] == "Loss by epoch" for row in spec["data"]["values"]}
    assert shards == {"reports/training/shard-0.csv", "reports/training/shard-1.csv"}
