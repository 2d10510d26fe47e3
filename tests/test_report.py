"""The page that a person reads: one file, whole, with every plot."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Project
from written import NO_TRIGGER, lists, published, record, write_reports

from training.errors import DamagedError, DrillError
from training.evaluation.reports import read_metrics
from training.files import write_atomic
from training.report.cells import ROWS, Cell, Value
from training.report.drill_results import (
    BackdoorResult,
    Column,
    DrillResult,
    ForgetResult,
    Identical,
    Recipe,
    Step,
    columns_of,
    read_drills,
    setting,
)
from training.report.page import code
from training.report.plots import PLOTS
from training.report.summary import summary
from training.report.verdict import POISONED_LIST
from training.stages.report import report
from training.workspace import Workspace


class Page(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def drill(kind: type[ForgetResult] | type[BackdoorResult], title: str, **values: float) -> DrillResult:
    """A drill whose cells of a column all have one value."""
    cells: dict[Step, dict[str, Cell]] = {
        step: {row.name: Value(value=value, of=10) for row in ROWS}  # type: ignore[misc]
        for step, value in values.items()
    }
    shared: dict[str, Any] = {
        "name": "drill",
        "title": title,
        "command": "sisa drill",
        "seed": 0,
        "recipe": Recipe(**{part: SMALL[part] for part in Recipe.model_fields}),
        "environment": {"python": "3.11.7"},
        "columns": {step: Column(cells=column) for step, column in cells.items()},
    }
    return kind(**shared, **({"samples": 5} if kind is ForgetResult else {"found": 1.0}))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The first generation, its reports written by hand."""
    written = Workspace(tmp_path)
    write_reports(written, "first")
    published(written, 1, record(0, ("a", 10, 1.0), ("b", 20, 2.0)))
    return written


def pages(workspace: Workspace) -> tuple[str, str]:
    """The HTML and the Markdown that the stage writes."""
    report(workspace)
    html, markdown = (workspace.report(name).read_text() for name in ("report.html", "report.md"))
    return html, markdown


def test_the_page_is_one_file_that_needs_nothing_from_elsewhere(workspace: Workspace) -> None:
    html, _ = pages(workspace)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("svg") == len(PLOTS)
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links == []
    assert not re.search(r"@import|url\(|<script|<link", html)


def test_the_second_generation_stands_beside_the_first(workspace: Workspace) -> None:
    html, markdown = pages(workspace)
    for shown in (html, markdown):
        assert "Generation 1" in shown
        assert "generation 1 is the first that was reported here" in shown
    assert "| | before | now | retrained from scratch |" in markdown

    write_reports(workspace, "second", accuracy=0.8, listed=lists("another"))
    published(workspace, 2, record(0, ("a", 10, 1.0), ("c", 18, 1.5)))
    html, markdown = pages(workspace)
    for shown in (html, markdown):
        assert "Generation 2" in shown
    assert '"Before" is generation 1.' in markdown
    rows = markdown.splitlines()
    assert "| | before | after | retrained from scratch |" in rows
    assert "| accuracy, majority vote | 0.900 [0.826, 0.945] | 0.800 [0.711, 0.867] | – (1) |" in rows
    assert "| slices retrained | 2 of 2 | 1 of 2 | – (1) |" in rows
    assert "| training seconds | 3.0 of 3.0 (100.0%) | 1.5 of 2.5 (60.0%) | – (1) |" in rows


def test_reporting_a_generation_again_changes_nothing(workspace: Workspace) -> None:
    pages(workspace)
    write_reports(workspace, "second")
    published(workspace, 2, record(0, ("a", 10, 1.0), ("c", 18, 1.5)))
    first = pages(workspace), workspace.report("history.json").read_bytes()
    assert (pages(workspace), workspace.report("history.json").read_bytes()) == first


def test_models_that_are_not_published_are_reported_as_such(workspace: Workspace) -> None:
    pages(workspace)
    history = workspace.report("history.json").read_bytes()
    write_reports(workspace, "candidate")
    html, markdown = pages(workspace)
    for shown in (html, markdown):
        assert "Unpublished models" in shown
        assert "these models are not published" in shown
    assert workspace.report("history.json").read_bytes() == history


def test_drills_are_shown_below_with_their_setting(workspace: Workspace) -> None:
    html, _ = pages(workspace)
    assert "<h2>Drills</h2>" not in html
    forget = drill(ForgetResult, "<script>", before=0.25, after=0.5, retrained=0.75)
    results = {
        "forget": forget.model_copy(update={"identical": Identical(shards=2, of=3)}),
        "backdoor": drill(BackdoorResult, "Backdoor", before=0.25, after=0.5),
    }
    for name, result in results.items():
        write_atomic(workspace.drill_reports / f"{name}.json", result.to_bytes())
    html, markdown = pages(workspace)
    for shown in (html, markdown):
        assert "digits, resnet9, 3 shards × 3 slices × 1 epoch" in shown
        assert "2 of 3 shards" in shown
        assert shown.count(POISONED_LIST) == 1  # with the backdoor's drill alone
    assert "| accuracy, mean of probabilities | 0.250 | 0.500 | 0.750 |" in markdown.splitlines()
    assert html.count("this drill trains no reference from scratch") == 1
    assert "<script" not in html


def test_a_plot_without_rows_says_so(workspace: Workspace) -> None:
    workspace.report("roc.csv").write_text("attack,fpr,tpr\n")
    html, _ = pages(workspace)
    assert html.count("<svg") == len(PLOTS) - 1
    assert html.count("There is nothing to draw.") == 1


def test_a_missing_report_is_named(workspace: Workspace) -> None:
    workspace.report("metrics.json").unlink()
    with pytest.raises(DamagedError, match=r"metrics\.json is missing"):
        report(workspace)


def test_text_from_outside_cannot_become_markup() -> None:
    assert code("run `sisa <x>` & see") == "run <code>sisa &lt;x&gt;</code> &amp; see"


def test_a_drills_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = drill(BackdoorResult, "Backdoor", before=0.25, after=0.5)
    write_atomic(tmp_path / "drill.json", written.to_bytes())
    assert read_drills(tmp_path) == [written]
    assert set(columns_of(written)["retrained"].values()) == {
        type(NO_TRIGGER)(absent="this drill trains no reference from scratch; `sisa drill forget` does")
    }
    assert setting(written) == "digits, resnet9, 3 shards × 3 slices × 1 epoch"


def test_a_file_that_is_not_a_drills_result_is_named(tmp_path: Path) -> None:
    for text, message in (
        ("{", r"x\.json is not the result of a drill \(Invalid JSON"),
        ("{}", r"x\.json is not the result of a drill \(Unable to extract tag using discriminator 'drill'"),
        ('{"drill": "other"}', r"'other' .* does not match any of the expected tags: 'forget', 'backdoor'"),
        ('{"drill": "forget"}', r"forget\.samples: Field required"),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DrillError, match=message):
            read_drills(tmp_path)


def test_the_summary_says_what_the_last_run_reached_and_cost(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    summary(workspace)
    lines = capsys.readouterr().out.splitlines()
    assert "Generation 1" in lines[0]
    assert "2 shards, 90 samples retained, 10 ids on the forget lists" in lines
    assert "sample-epochs: 30 of 30" in lines
    assert lines[-1] == f"Report: {workspace.root}/reports/report.html"  # how `make repro` ends


@pytest.mark.pipeline
def test_the_report_of_a_trained_project_shows_what_was_forgotten(trained: Project) -> None:
    trained.stages("evaluate", "membership", "backdoor", "report")
    first = (trained.folder / "reports/report.html").read_text()
    accuracy = read_metrics(trained.workspace.report("metrics.json")).mean.accuracy
    assert f"<dd>{accuracy:.4f}</dd>" in first
    models = [shard["sha256"] for shard in trained.manifest()["shards"]]
    assert f'<meta name="sisa-models" content="{" ".join(models)}">' in first
    assert first.count("<body>") == 1  # below it a service puts that models are withdrawn
    trained.forget("3", "5", "8", "13", "21", "34")
    trained.stages()
    markdown = (trained.folder / "reports/report.md").read_text()
    assert f"| accuracy, mean of probabilities | {accuracy:.3f} [" in markdown
    assert "generation 1 was attacked on another forget list" in markdown
    assert "1,436 samples retained, 6 forgotten" in markdown
    retrained = next(line for line in markdown.splitlines() if line.startswith("| shards retrained"))
    assert "| 3 of 3 |" in retrained
