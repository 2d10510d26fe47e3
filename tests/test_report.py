"""The page that a person reads: one file, whole, with every plot, in a workspace that was trained and changed."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from conftest import Workspace
from test_results import drill

from training.evaluation import plots
from training.evaluation.report import POISONED_LIST, code
from training.files import json_bytes

ROC = [{"attack": "forget: loss", "fpr": rate, "tpr": rate**0.5} for rate in (0.01, 0.1, 1.0)]


class Page(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def colours(svg: str) -> set[str]:
    return set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg)) - {"none", "transparent"}


@pytest.mark.parametrize(
    "spec",
    [
        plots.loss_curves([{"shard": "0", "epoch": 1, "loss": 2.0}, {"shard": "0", "epoch": 2, "loss": 1.0}]),
        plots.loss_curves([{"shard": str(shard), "epoch": 1, "loss": 2.0} for shard in range(20)]),
        plots.confusion([("a", "a"), ("b", "a"), ("b", "b")], ["a", "b"]),
        plots.reliability([{"aggregation": "mean", "confidence": 0.5, "accuracy": 0.4, "samples": 3}]),
        plots.roc(ROC),
        plots.certified([{"poisoned_shards": 0, "accuracy": 0.9}, {"poisoned_shards": 1, "accuracy": 0.5}]),
        plots.agreement([{"votes": 3, "samples": 10, "accuracy": 0.9}]),
        plots.shards([{"shard": 0, "accuracy": 0.9}]),
    ],
    ids=["losses", "many shards", "confusion", "reliability", "roc", "certified", "agreement", "shards"],
)
def test_a_plot_takes_every_colour_from_the_page(spec: plots.Spec) -> None:
    drawn = plots.svg(spec, "A <plot>")
    assert drawn.startswith('<svg role="img" aria-label="A &lt;plot&gt;"')
    assert colours(drawn)
    assert all(colour.startswith("var(--") for colour in colours(drawn)), colours(drawn)
    assert " id=" not in drawn  # ids of two plots in one page would clash
    assert float(re.findall(r'width="([\d.]+)"', drawn)[0]) <= 345  # a telephone's width, less the margins


def test_a_picture_that_stands_alone_brings_its_colours_along() -> None:
    rows = [{"what": "loss", "step": "before", "value": 0.7, "low": 0.6, "high": 0.8}]
    picture = plots.picture(plots.steps(rows, "AUC", guide=0.5), "Attacks")
    root = ElementTree.fromstring(picture)
    assert (root.tag, root.attrib["aria-label"]) == ("{http://www.w3.org/2000/svg}svg", "Attacks")
    used = set(re.findall(r"var\((--[\w-]+)\)", picture))
    assert {f"var({name})" for name in used} >= colours(picture) != set()
    assert used <= set(re.findall(r"(--[\w-]+):", picture))
    assert "prefers-color-scheme: dark" in picture


def test_the_roc_has_logarithmic_axes() -> None:
    axes = plots.roc(ROC)["encoding"]
    assert [axes[name]["scale"]["type"] for name in "xy"] == ["log", "log"]
    assert axes["x"]["axis"]["values"] == [0.01, 0.1, 1]  # none below what the samples support


def test_an_axis_of_whole_numbers_has_no_more_marks_than_fit() -> None:
    assert plots.whole_numbers([{"n": 1}, {"n": 5}], "n")["values"] == [1, 2, 3, 4, 5]
    assert plots.whole_numbers([{"n": 1}, {"n": 150}], "n")["values"] == [1, 20, 39, 58, 77, 96, 115, 134]


def test_text_from_outside_cannot_become_markup() -> None:
    assert code("run `sisa <x>` & see") == "run <code>sisa &lt;x&gt;</code> &amp; see"


@pytest.mark.pipeline
def test_the_report_shows_the_generation_before_and_needs_nothing_from_elsewhere(
    trained: Workspace,
) -> None:
    first = (trained.folder / "reports/report.html").read_text()
    assert "<h2>Drills</h2>" not in first
    assert "generation 1 is the first that was reported here" in first
    accuracy = re.findall(r"<dd>([\d.]+)</dd>", first)[0]

    runs = {
        "scratch": drill("forget", 0, {"before": 0.25, "after": 0.5, "retrained": 0.75}, samples=5),
        "poison": drill("backdoor", 1, {"before": 0.25, "after": 0.5}, found=1.0),
    }
    runs["scratch"] |= {"identical": {"shards": 2, "of": 3}, "title": "<script>"}
    for name, run in runs.items():
        (trained.folder / f"reports/drills/{name}.json").write_bytes(json_bytes(run))
    trained.forget("3", "5", "8", "13", "21", "34")
    trained.all_stages()
    text = (trained.folder / "reports/report.html").read_text()
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("svg") == 8
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links == []
    assert not re.search(r"@import|url\(|<script|<link", text)
    markdown = (trained.folder / "reports/report.md").read_text()
    for shown in (text, markdown):
        assert "Generation 2" in shown
        assert "generation 1 was attacked on another list" in shown
    assert f"| accuracy, mean of probabilities | {float(accuracy):.3f} [" in markdown
    assert "Before is generation 1." in markdown
    for shown in (text, markdown):
        assert "digits, resnet9, 3 shards × 3 slices × 1 epochs" in shown
        assert "2 of 3 shards" in shown
        assert shown.count(POISONED_LIST) == 1  # with the backdoor's drill alone
    assert "| accuracy, mean of probabilities | 0.250 | 0.500 | 0.750 |" in markdown.splitlines()
    assert text.count("this drill trains no reference from scratch") == 1
    assert "1,436 samples retained, 6 forgotten" in markdown

    closing = trained.stage("evaluation.summary").stdout.splitlines()[-1]  # how `make repro` ends
    assert closing == f"Report: {trained.folder.resolve()}/reports/report.html"

    history = (trained.folder / "reports/history.json").read_text()
    trained.all_stages()
    assert (trained.folder / "reports/history.json").read_text() == history  # looking again changes nothing
