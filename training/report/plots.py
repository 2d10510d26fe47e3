"""The plots of the report and of ``dvc plots``: each is defined here, once.

``dvc plots diff`` gives a spec rows of several revisions, told apart by the column ``rev``; the report has one alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.report import specs
from training.report.drawing import Rows, Spec
from training.workspace import Workspace


@dataclass(frozen=True)
class Plot:
    """One plot.

    ``name``: of DVC's template. ``source``: a CSV file, or a folder of them, in ``reports/``. ``x``, ``y``:
    the columns that DVC asks for. ``revisions``: how several of them are shown, as lines of different dashes, as
    bars side by side or as plots side by side.
    """

    name: str
    title: str
    caption: str
    source: str
    x: str
    y: str
    spec: Spec
    revisions: Literal["dashes", "bars", "plots"]


def read_rows(workspace: Workspace, plot: Plot) -> Rows:
    """The rows of a plot, every value as text; of a folder, each row names its file."""
    path = workspace.report(plot.source)
    if not path.is_dir():
        return rows_of(path)
    return [{**row, "filename": each.name} for each in sorted(path.glob("*.csv")) for row in rows_of(each)]


def rows_of(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PLOTS = (
    Plot(
        name="loss",
        title="Loss by epoch",
        caption="Each shard's training loss over all its slices.",
        source="training",
        x="epoch",
        y="loss",
        spec=specs.loss(),
        revisions="dashes",
    ),
    Plot(
        name="shards",
        title="Accuracy of each shard alone",
        caption="On the test set.",
        source="shards.csv",
        x="shard",
        y="accuracy",
        spec=specs.bars("shard", "shard", "accuracy", "accuracy alone"),
        revisions="bars",
    ),
    Plot(
        name="roc",
        title="Membership attacks",
        caption="ROC, both axes logarithmic. Dotted: guessing.",
        source="roc.csv",
        x="fpr",
        y="tpr",
        spec=specs.roc(),
        revisions="dashes",
    ),
    Plot(
        name="confusion_mean",
        title="Confusion, mean of probabilities",
        caption="Percent of the actual class.",
        source="confusion.csv",
        x="actual",
        y="mean",
        spec=specs.confusion("mean"),
        revisions="plots",
    ),
    Plot(
        name="confusion_vote",
        title="Confusion, majority vote",
        caption="Percent of the actual class.",
        source="confusion.csv",
        x="actual",
        y="vote",
        spec=specs.confusion("vote"),
        revisions="plots",
    ),
    Plot(
        name="reliability",
        title="Reliability",
        caption="Accuracy by confidence. Dotted: perfect calibration.",
        source="reliability.csv",
        x="confidence",
        y="accuracy",
        spec=specs.reliability(),
        revisions="dashes",
    ),
    Plot(
        name="shard_count",
        title="Accuracy by number of shards",
        caption="Mean over choices of shards; the band spans the worst to the best choice.",
        source="shard_count.csv",
        x="shards",
        y="mean",
        spec=specs.shard_count(),
        revisions="dashes",
    ),
    Plot(
        name="robustness",
        title="Robustness of the vote",
        caption="Accuracy that no poisoning of that many shards can take away.",
        source="robustness.csv",
        x="poisoned_shards",
        y="accuracy",
        spec=specs.bars("poisoned_shards", "poisoned shards", "accuracy", "guaranteed accuracy"),
        revisions="bars",
    ),
    Plot(
        name="agreement",
        title="Agreement of the shards",
        caption="Test samples by votes for the winner. On each bar: the share that is correct.",
        source="agreement.csv",
        x="votes",
        y="samples",
        spec=specs.bars("votes", "votes for the winner", "samples", "test samples"),
        revisions="bars",
    ),
)
