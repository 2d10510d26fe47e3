"""Stage report: what a person should know of this generation, as one self-contained page and as Markdown."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from training import stage
from training.evaluation import plots
from training.evaluation.drills import columns_of, read_drills, recipe
from training.evaluation.evidence import ROWS, Cell, Notes, absent, before, collect, parts, remember
from training.files import json_bytes, read_json, write_atomic
from training.paths import (
    AGREEMENT_REPORT,
    CERTIFIED_REPORT,
    CONFUSION_REPORT,
    DRILL_REPORTS,
    HISTORY_REPORT,
    HTML_REPORT,
    MARKDOWN_REPORT,
    PARTITION_FILE,
    RELIABILITY_REPORT,
    ROC_REPORT,
    SHARD_COUNT_REPORT,
    SHARDS_REPORT,
    TRAINING_REPORTS,
)
from training.stage import StageError

TEMPLATES = Path(__file__).parent
NO_REFERENCE = (
    "none was trained for this generation; `sisa drill forget` trains one and compares the models byte for byte"
)

# A list of poisoned samples is not of the kind that it is compared with.
POISONED_LIST = (
    "Listed samples that are poisoned carry the trigger, and another label where they are relabelled; the never seen "
    "ones do not. An attack by loss may tell them apart by that, without any memory of them; the likelihood ratio "
    "compares each sample with shards that never held it."
)


@dataclass
class Table:
    """The table before / after / retrained, with the reasons for what is absent as numbered notes."""

    title: str
    columns: Mapping[str, Mapping[str, Cell]]
    notes: Notes = field(default_factory=Notes)

    def rows(self) -> list[tuple[str, list[tuple[str, str, int | None]]]]:
        """Label and, for each column, the number, what goes with it, and the number of its note."""
        self.notes.clear()
        return [
            (label, [(*parts(cells[name], kind), self.notes.number(cells[name])) for cells in self.columns.values()])
            for name, label, kind in ROWS
        ]


@dataclass(frozen=True)
class Plot:
    title: str
    caption: str
    svg: Markup | None


def main() -> None:
    drills = read_drills(DRILL_REPORTS)
    history = remember(read_history(), collect(Path()))
    write_atomic(HISTORY_REPORT, json_bytes({"generations": history}))
    now = dict(history[-1])
    columns = {
        "before": before(history),
        "after" if len(history) > 1 else "now": now["cells"],
        "retrained from scratch": absent(NO_REFERENCE),
    }
    page = {
        "now": now,
        "previous": history[0]["generation"] if len(history) > 1 else None,
        "verdict": verdict(now),
        "poisoned_list": POISONED_LIST,
        "table": Table(f"Generation {now['generation']}", columns),
        "drills": [(drill, recipe(drill), Table(drill["title"], columns_of(drill))) for drill in drills],
        "plots": draw(),
    }
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    )
    environment.filters["code"] = code
    for template, path in (("report.html.j2", HTML_REPORT), ("report.md.j2", MARKDOWN_REPORT)):
        write_atomic(path, environment.get_template(template).render(page).encode())
    print(f"{HTML_REPORT.resolve()}")


def read_history() -> list[dict[str, Any]]:
    """The evidence of earlier generations; raises StageError when the file is damaged."""
    if not HISTORY_REPORT.is_file():
        return []
    mend = f'`dvc checkout {HISTORY_REPORT}`, or delete it (the column "before" is then empty), and `dvc repro`'
    generations = read_json(HISTORY_REPORT, mend).get("generations")
    if not isinstance(generations, list):
        raise StageError(f"{HISTORY_REPORT} is damaged (no list of generations); {mend}")
    return generations


def code(text: str) -> Markup:
    """Text for the page, what stands in `backticks` as code."""
    return Markup(re.sub(r"`(.*?)`", r"<code>\1</code>", str(escape(text))))


def verdict(now: Mapping[str, Any]) -> list[str]:
    """The findings in plain sentences, each with its number."""
    cells, listed = now["cells"], now["list"]
    sentences = []
    what = "forgotten" if listed["applied"] else "watched"
    for name, attack in (("loss_auc", "The attack by loss"), ("ratio_auc", "The attack by likelihood ratio")):
        if "value" not in cells[name]:
            continue
        if "interval" not in cells[name]:
            sentences.append(f"{attack} has too few samples to say anything (AUC {cells[name]['value']:.3f}).")
            continue
        low, high = cells[name]["interval"]
        number = f"AUC {cells[name]['value']:.3f}, 95% interval {low:.3f} to {high:.3f}"
        if low <= 0.5 <= high:
            sentences.append(f"{attack} finds no difference between {what} and never seen samples ({number}).")
        else:
            side = "more" if low > 0.5 else "less"
            sentences.append(f"{attack} finds {what} samples {side} familiar than never seen ones ({number}).")
    if not listed["listed"]:
        sentences.append("Nothing is on the forget lists.")
    trained_on = listed["listed"] - listed["already_gone"]
    if not listed["applied"] and trained_on:
        sentences.append(f"{trained_on:,} listed samples are only watched: they are still trained on.")
    if "value" in cells["attack_success"]:
        success, floor = cells["attack_success"]["value"], cells["attack_floor"]["value"]
        poison = (
            f"{now['poisoned']:,} poisoned samples are in training" if now["poisoned"] else "all of it is forgotten"
        )
        sentences.append(
            f"A backdoor was planted, {poison}: the trigger turns {success:.1%} of the other classes' test pictures "
            f"into its class, {floor:.1%} are taken for it without the trigger."
        )
        if listed["listed"]:
            sentences.append(POISONED_LIST)
    return sentences


def draw() -> list[Plot]:
    """Every plot of the report; one without data says so."""
    classes = read_json(PARTITION_FILE)["classes"]
    losses = [
        {"shard": path.stem.removeprefix("shard-"), **row}
        for path in sorted(TRAINING_REPORTS.glob("shard-*.csv"))
        for row in read_rows(path)
    ]
    pairs = [(row["actual"], row["mean"]) for row in read_rows(CONFUSION_REPORT, numbers=False)]
    return [
        plot("Loss by epoch", "Each shard's training loss over all its slices.", plots.loss_curves, losses),
        plot("Accuracy of each shard alone", "On the test set.", plots.shards, read_rows(SHARDS_REPORT)),
        plot(
            "Membership attacks",
            "ROC, both axes logarithmic; on the dotted line the attacker guesses.",
            plots.roc,
            [row for row in read_rows(ROC_REPORT) if not row["attack"].endswith("own shard confidence")],
        ),
        Plot(
            "Confusion",
            "Mean of probabilities; % of the actual class.",
            Markup(plots.svg(plots.confusion(pairs, classes), "Confusion")),
        ),
        plot(
            "Reliability",
            "Accuracy by confidence; sound is the dotted line.",
            plots.reliability,
            read_rows(RELIABILITY_REPORT),
        ),
        plot(
            "Accuracy by number of shards",
            "Mean over choices of shards; the band is from the worst to the best choice.",
            plots.shard_count,
            read_rows(SHARD_COUNT_REPORT),
        ),
        plot(
            "Certified accuracy",
            "Share that the vote gets right whatever so many shards were made to answer.",
            plots.certified,
            read_rows(CERTIFIED_REPORT),
        ),
        plot(
            "Agreement of the vote",
            "Test samples by the winner's votes; above each bar the share that is right.",
            plots.agreement,
            read_rows(AGREEMENT_REPORT),
        ),
    ]


def plot(title: str, caption: str, spec: Callable[[plots.Rows], plots.Spec], rows: plots.Rows) -> Plot:
    if not rows:
        return Plot(title, "There is nothing to draw.", None)
    return Plot(title, caption, Markup(plots.svg(spec(rows), title)))


def read_rows(path: Path, numbers: bool = True) -> list[dict[str, Any]]:
    """A table that a stage wrote, numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: as_number(text) if numbers else text for name, text in row.items()} for row in rows]


def as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    stage.run(main)
