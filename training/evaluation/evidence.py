"""What is known of one generation, as numbers only: the columns of the table before / after / retrained.

No model, no sample's score, no id is in it. A cell is ``{"value": x}``, with ``interval``, ``spread`` or ``of``
where there is one, or ``{"absent": reason}``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.evaluation.intervals import wilson_interval
from training.files import read_json
from training.paths import (
    BACKDOOR_REPORT,
    COST_REPORTS,
    MANIFEST_FILE,
    MEMBERSHIP_REPORT,
    METRICS_REPORT,
    PARTITION_FILE,
    PLAN_REPORT,
)

Cell = Mapping[str, Any]
Evidence = Mapping[str, Any]

# Row of the table: key, what a reader sees, and how its value is written.
ROWS = (
    ("accuracy_mean", "accuracy, mean of probabilities", "share"),
    ("accuracy_vote", "accuracy, majority vote", "share"),
    ("forget_accuracy", "accuracy on the forget list", "share"),
    ("reference_attack", "reference attack on the forget list, accuracy", "share"),
    ("loss_auc", "attack by the ensemble's loss, AUC", "share"),
    ("ratio_auc", "attack by likelihood ratio over shards, AUC", "share"),
    ("attack_success", "backdoor: attack success", "share"),
    ("attack_floor", "backdoor: floor, without the trigger", "share"),
    ("attack_recovery", "backdoor: recovery, right in spite of the trigger", "share"),
    ("shards", "shards retrained", "count"),
    ("slices", "slices retrained", "count"),
    ("sample_epochs", "sample-epochs", "count"),
    ("seconds", "training seconds", "seconds"),
)
OF_THE_LIST = ("forget_accuracy", "reference_attack", "loss_auc", "ratio_auc")
OF_THE_TRIGGER = ("attack_success", "attack_floor", "attack_recovery")
COST = ("shards", "slices", "sample_epochs", "seconds")


class Notes(list[str]):
    """The reasons for what is absent from a table, each once, to be put below it by number."""

    def number(self, cell: Cell) -> int | None:
        """The number of a cell's reason, from 1; None for a cell that has its value."""
        if "absent" not in cell:
            return None
        if cell["absent"] not in self:
            self.append(cell["absent"])
        return self.index(cell["absent"]) + 1

    def mark(self, cell: Cell, kind: str) -> str:
        """The cell as a reader sees it, followed by the number of its reason."""
        words, number = in_words(cell, kind), self.number(cell)
        return words if number is None else f"{words} ({number})"

    def lines(self) -> list[str]:
        """The reasons as they stand below the table."""
        return [f"({number}) {reason}" for number, reason in enumerate(self, start=1)]


def collect(workspace: Path) -> dict[str, Any]:
    """The evidence of the generation that ``workspace`` holds, from its reports.

    Raises StageError when one is missing or damaged.
    """
    manifest, metrics, membership, backdoor, plan, partition = (
        read_json(workspace / path)
        for path in (MANIFEST_FILE, METRICS_REPORT, MEMBERSHIP_REPORT, BACKDOOR_REPORT, PLAN_REPORT, PARTITION_FILE)
    )
    tested, listed = metrics["test_samples"], membership["forget"]
    return {
        "generation": manifest["generation"],
        "retained": sum(partition["retained"]),
        "forgotten": partition["forgotten"]["listed"],
        "poisoned": sum(partition["poisoned"]["retained"]),
        "models": models_digest(manifest),
        "list": {name: membership["list"][name] for name in ("applied", "listed", "already_gone", "sha256")},
        "backdoor": {name: backdoor.get(name) for name in ("target_class", "trigger")},
        "cells": {
            "accuracy_mean": accuracy(metrics["mean"]["accuracy"], tested),
            "accuracy_vote": accuracy(metrics["vote"]["accuracy"], tested),
            "forget_accuracy": cell(listed, "accuracy", "mean", value="share"),
            "reference_attack": cell(listed, "reference", value="accuracy"),
            "loss_auc": cell(listed, "ensemble_loss", value="auc"),
            "ratio_auc": cell(listed, "likelihood_ratio", value="auc"),
            "attack_success": cell(backdoor, "mean", "attack_success", value="share"),
            "attack_floor": cell(backdoor, "mean", "floor", value="share"),
            "attack_recovery": cell(backdoor, "mean", "recovery", value="share"),
            **cost(plan, workspace / COST_REPORTS),
        },
    }


def models_digest(manifest: Mapping[str, Any]) -> str:
    """The same for two generations that serve the same training."""
    return hashlib.sha256("".join(f"{shard['key']}\n" for shard in manifest["shards"]).encode()).hexdigest()


def accuracy(share: float, samples: int) -> dict[str, Any]:
    return {"value": share, "interval": wilson_interval(round(share * samples), samples)}


def cell(report: Mapping[str, Any], *path: str, value: str) -> dict[str, Any]:
    """The number ``value`` at ``path`` with what goes with it, or the reason that stands in its place."""
    for name in (*path, value):
        reason = report.get("absent")
        if isinstance(reason, str):
            return {"absent": reason}
        if isinstance(reason, Mapping) and name in reason:
            return {"absent": reason[name]}
        if name != value:
            report = report[name]
    return {"value": report[value], **{name: report[name] for name in ("interval", "spread") if name in report}}


def cost(plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the last schedule asked for, beside a full training, and the seconds it took."""
    stale = [row for row in plan["shards"] if row["retrain_slices"]]
    runs = [read_json(folder / f"shard-{row['shard']}.json") for row in stale]
    slices = sum(len(row["retrain_slices"]) for row in stale)
    cells: dict[str, Any] = {
        "shards": {"value": len(stale), "of": len(plan["shards"])},
        "slices": {"value": slices, "of": sum(row["slices"] for row in plan["shards"])},
        "sample_epochs": {"value": plan["sample_epochs"], "of": plan["full_sample_epochs"]},
    }
    if sum(run["sample_epochs"] for run in runs) == plan["sample_epochs"]:
        return {**cells, "seconds": {"value": sum(run["train_seconds"] for run in runs)}}
    return {**cells, "seconds": {"absent": "training was interrupted, or done in parts: only its last part was timed"}}


def remember(history: Sequence[Evidence], now: Evidence) -> list[Evidence]:
    """The previous generation's evidence and ``now``, or ``now`` alone when there was none before it.

    Its seconds stand beside those of the last full training that was timed.
    """
    last = history[-1] if history else None
    if last is not None and last["generation"] == now["generation"]:
        history = history[:-1] if same_models(last, now) else []  # not the same: models/ was begun anew
    cost = own_cost(last, now)
    full_seconds = None if last is None else last.get("full_seconds")
    epochs, seconds = cost["sample_epochs"], cost["seconds"]
    if "value" in epochs and epochs["value"] == epochs["of"]:
        full_seconds = seconds.get("value")
    if "value" in seconds and full_seconds is not None:
        cost["seconds"] = {**seconds, "of": full_seconds}
    return [*history[-1:], {**now, "full_seconds": full_seconds, "cells": {**now["cells"], **cost}}]


def own_cost(last: Evidence | None, now: Evidence) -> dict[str, Cell]:
    """What ``now`` took when it was new: nothing when it serves the models of the generation before it."""
    cost = {name: now["cells"][name] for name in COST}
    if last is None or not same_models(last, now):
        return cost
    if last["generation"] == now["generation"]:  # looked at again
        return {name: complete(last["cells"])[name] for name in COST}
    if last["generation"] + 1 == now["generation"]:  # another aggregation, say: the plan is still the last one's
        return {name: {**cell, "value": 0} if "value" in cell else {"value": 0} for name, cell in cost.items()}
    return cost


def same_models(last: Evidence, now: Evidence) -> bool:
    """Evidence of an earlier version does not say; it is taken for the same."""
    return bool(last.get("models", now["models"]) == now["models"])


def before(history: Sequence[Evidence]) -> dict[str, Cell]:
    """The column "before" beside ``history[-1]``."""
    now = history[-1]
    if len(history) == 1:
        return absent(f"generation {now['generation']} is the first that was reported here")
    last = history[-2]
    cells = complete(last["cells"])
    if last["list"]["sha256"] != now["list"]["sha256"]:
        reason = (
            f"generation {last['generation']} was attacked on another list; a before needs this one watched first "
            "(forget.apply: false), which is possible until something is forgotten"
        )
        cells |= cleared(OF_THE_LIST, reason, cells, now["cells"])
    if last.get("backdoor", now["backdoor"]) != now["backdoor"]:
        reason = f"generation {last['generation']} was tried with another trigger or target class, or with none"
        cells |= cleared(OF_THE_TRIGGER, reason, cells, now["cells"])
    return cells


def cleared(names: Sequence[str], reason: str, *columns: Mapping[str, Cell]) -> dict[str, Cell]:
    """``reason`` in the place of what must not be compared; what is in neither column keeps its own."""
    return {name: {"absent": reason} for name in names if any("value" in column[name] for column in columns)}


def complete(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """A cell for every row, also of evidence that was kept by an earlier version, which knew fewer."""
    missing = {"absent": "not measured by the version that made this column"}
    return {name: cells.get(name, missing) for name, _, _ in ROWS}


def absent(reason: str) -> dict[str, Cell]:
    """A column without a number."""
    return {name: {"absent": reason} for name, _, _ in ROWS}


def in_words(value: Cell, kind: str) -> str:
    """A cell as a reader sees it: ``0.864 [0.857, 0.870]``, ``3 of 25``, ``–``."""
    return " ".join(part for part in parts(value, kind) if part)


def parts(value: Cell, kind: str) -> tuple[str, str]:
    """A cell's number and what goes with it."""
    if "absent" in value:
        return "–", ""
    number = value["value"]
    if kind == "seconds":
        return f"{number:,.1f}", f"of {value['of']:,.1f} ({number / value['of']:.1%})" if "of" in value else ""
    if kind == "count" and "spread" in value:
        digits = 0 if number > 1000 else 1
        return f"{number:,.{digits}f}", f"± {value['spread']:,.{digits}f}"
    if kind == "count":
        share = f" ({number / value['of']:.1%})" if value["of"] > 1000 else ""
        return f"{number:,}", f"of {value['of']:,}{share}"
    if "interval" in value:
        return f"{number:.3f}", "[{:.3f}, {:.3f}]".format(*value["interval"])
    return f"{number:.3f}", f"± {value['spread']:.3f}" if "spread" in value else ""
