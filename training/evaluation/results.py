"""Drills as pages of ``docs/results/``: what was run on what, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from training.evaluation.drills import columns_of
from training.evaluation.evidence import ROWS, Cell, in_words
from training.files import read_json, write_atomic
from training.paths import DRILL_REPORTS
from training.stage import StageError

RESULTS_FOLDER = Path("docs/results")
Drill = Mapping[str, Any]


def write_results(folder: Path = RESULTS_FOLDER) -> list[Path]:
    """Write a page for each kind of drill that was run; raises StageError when none was."""
    drills = [read_json(path) for path in sorted(DRILL_REPORTS.glob("*.json"))]
    if not drills:
        raise StageError(f"{DRILL_REPORTS} holds no drill's result; run `sisa drill forget` or `sisa drill backdoor`")
    written = []
    for kind, name, page in (("forget", "forgetting.md", forgetting), ("backdoor", "backdoor.md", backdoors)):
        chosen = [drill for drill in drills if drill["drill"] == kind]
        if chosen:
            write_atomic(folder / name, page(chosen).encode())
            written.append(folder / name)
    return written


def forgetting(drills: Sequence[Drill]) -> str:
    """Drills that differ in their seed alone are one table: mean ± standard deviation over the seeds."""
    groups: dict[str, list[Drill]] = {}
    for drill in drills:
        groups.setdefault(json.dumps([drill["samples"], drill["recipe"]], sort_keys=True), []).append(drill)
    parts = ["# Forgetting random samples\n"]
    for group in groups.values():
        seeds = ", ".join(str(drill["seed"]) for drill in group)
        parts.append(f"## {group[0]['samples']} samples, {recipe(group[0])}\n")
        parts.append(f"Seeds {seeds}; mean ± standard deviation over them where there are several.\n")
        table = ["| | before | after | retrained from scratch |", "|---|---|---|---|"]
        columns = [columns_of(drill) for drill in group]
        for name, label, kind in ROWS:
            if name.startswith("attack_"):
                continue  # no backdoor in these
            cells = [over_seeds([column[step][name] for column in columns], kind) for step in columns[0]]
            table.append(f"| {label} | {' | '.join(cells)} |")
        parts.append("\n".join(table) + "\n")
        if all("identical" in drill for drill in group):
            same, of = (sum(drill["identical"][key] for drill in group) for key in ("shards", "of"))
            parts.append(f"Byte for byte the same after forgetting as from scratch: {same} of {of} shards.\n")
        parts.append(provenance(group))
    return "\n".join(parts)


def backdoors(drills: Sequence[Drill]) -> str:
    """A row for each drill."""
    head = ["drill", "poison", "trigger", "found", "attack success, before", "after", "floor, before", "after"]
    head += ["recovery, before", "after", "accuracy, before", "after", "recipe"]
    table = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for drill in drills:
        poison = drill["recipe"]["poison"]
        trigger = poison["trigger"]
        what = "others relabelled" if poison["relabel"] else "the target's own"
        cells = [
            in_words(columns_of(drill)[step][name], "share")
            for name in ("attack_success", "attack_floor", "attack_recovery", "accuracy_mean")
            for step in ("before", "after")
        ]
        described = [
            drill["name"],
            f"{poison['samples']} samples, {what}, to {poison['target_class']}",
            f"{trigger['size']} × {trigger['size']}, grey {trigger['value']}, {trigger['position']}",
            f"{drill['found']:.0%}",
        ]
        table.append(f"| {' | '.join([*described, *cells, recipe(drill)])} |")
    text = "Mean of probabilities; in brackets 95% intervals.\n"
    return "\n".join(["# Forgetting a backdoor\n", "\n".join(table) + "\n", text, provenance(drills)])


def over_seeds(cells: Sequence[Cell], kind: str) -> str:
    """One cell as it is; of several mean and standard deviation; a dash when one of them is absent."""
    if len(cells) == 1 or any("absent" in cell for cell in cells):
        return in_words(cells[0] if len(cells) == 1 else {"absent": ""}, kind)
    values = [cell["value"] for cell in cells]
    if kind == "share":
        return f"{mean(values):.3f} ± {stdev(values):.3f}"
    return f"{mean(values):,.1f} ± {stdev(values):,.1f}"


def recipe(drill: Drill) -> str:
    parts = drill["recipe"]
    training = parts["training"]
    return (
        f"{parts['data']['source']}, {parts['network']['name']}, {len(parts['sisa']['shards'])} shards × "
        f"{parts['sisa']['slices']} slices × {training['epochs_per_slice']} epochs"
    )


def provenance(drills: Iterable[Drill]) -> str:
    """Commands, versions and machines."""
    commands = "\n".join(drill["command"] for drill in drills)
    machines = {", ".join(f"{name} {value}" for name, value in drill["environment"].items()) for drill in drills}
    return f"```sh\n{commands}\n```\n\nMade with {'; '.join(sorted(machines))}.\n"
