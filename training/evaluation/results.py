"""Published drills as pages of ``docs/results/``: what was run on what, and what came out.

The report shows the drills of a workspace, ``reports/drills/``; pages are made of copies of them in
``docs/results/drills/``, so that what was once published is not in everyone's report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from training.evaluation.drills import columns_of
from training.evaluation.evidence import ROWS, Cell, in_words
from training.files import read_json, write_atomic
from training.stage import StageError

RESULTS_FOLDER = Path("docs/results")
BY_HAND = "<!-- Written by hand from here on: `sisa drill results` keeps it and makes anew what is above. -->"
Drill = Mapping[str, Any]


def write_results(folder: Path = RESULTS_FOLDER) -> list[Path]:
    """Write a page for each kind of drill that was run; raises StageError when none was."""
    drills = [read_json(path) for path in sorted((folder / "drills").glob("*.json"))]
    if not drills:
        raise StageError(
            f"{folder / 'drills'} holds no drill's result; copy there from reports/drills what is to be shown"
        )
    written = []
    for kind, name, page in (("forget", "forgetting.md", forgetting), ("backdoor", "backdoor.md", backdoors)):
        chosen = [drill for drill in drills if drill["drill"] == kind]
        if chosen:
            path = folder / name
            write_atomic(path, f"{page(chosen)}\n{BY_HAND}\n{by_hand(path)}".encode())
            written.append(path)
    return written


def by_hand(path: Path) -> str:
    """What people have written below the line of an earlier page."""
    if not path.is_file():
        return ""
    _, line, text = path.read_text(encoding="utf-8").partition(f"{BY_HAND}\n")
    if not line:
        raise StageError(
            f"{path} has no line {BY_HAND!r}, below which it would be kept; put the line in, or move the page away"
        )
    return text


def grouped(drills: Iterable[Drill], key: Callable[[Drill], object]) -> Iterable[list[Drill]]:
    """Drills of the same key together, in the order of their first."""
    groups: dict[str, list[Drill]] = {}
    for drill in drills:
        groups.setdefault(json.dumps(key(drill), sort_keys=True), []).append(drill)
    return groups.values()


def forgetting(drills: Sequence[Drill]) -> str:
    """Drills that differ in their seed alone are one table: mean ± standard deviation over the seeds."""
    parts = ["# Forgetting random samples\n"]
    for group in grouped(drills, lambda drill: [drill["samples"], drill["recipe"]]):
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
    """A table for each recipe, in it a row for each drill."""
    cells = {
        "attack success": "attack_success",
        "floor": "attack_floor",
        "recovery": "attack_recovery",
        "accuracy": "accuracy_mean",
    }
    parts = [
        "# Forgetting a backdoor\n",
        "Each cell: before → after forgetting what was found of the poison, by the mean of probabilities, with 95% "
        "intervals.\n",
        "- attack success: test pictures of other classes that the trigger turns into the target class\n"
        "- floor: the same pictures without the trigger, taken for the target class by mistake\n"
        "- recovery: the same pictures with the trigger, still given their true class\n"
        "- accuracy: all test pictures, without the trigger\n",
    ]
    for group in grouped(drills, lambda drill: {**drill["recipe"], "poison": None}):
        parts.append(f"## {recipe(group[0])}\n")
        table = [f"| poison | trigger | found | {' | '.join(cells)} |", "|" + "---|" * (3 + len(cells))]
        for drill in group:
            columns = columns_of(drill)
            changes = [
                f"{in_words(columns['before'][name], 'share')} → {in_words(columns['after'][name], 'share')}"
                for name in cells.values()
            ]
            table.append(f"| {' | '.join([*setting(drill), *changes])} |")
        parts += ["\n".join(table) + "\n", provenance(group)]
    return "\n".join(parts)


def setting(drill: Drill) -> list[str]:
    """What was poisoned, how it was marked and how much of it was found."""
    poison = drill["recipe"]["poison"]
    trigger = poison["trigger"]
    whose = "of other classes, relabelled" if poison["relabel"] else "of the class itself"
    side = trigger["size"]
    return [
        f"{poison['samples']} pictures {whose}, to {poison['target_class']}",
        f"{side} × {side}, grey {trigger['value']}, {trigger['position']}",
        f"{drill['found']:.0%}",
    ]


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


def provenance(drills: Sequence[Drill]) -> str:
    """Commands, seeds, versions and machines."""
    commands = "\n".join(drill["command"] for drill in drills)
    machines = {", ".join(f"{name} {value}" for name, value in drill["environment"].items()) for drill in drills}
    seeds = ", ".join(str(seed) for seed in sorted({drill["seed"] for drill in drills}))
    return f"```sh\n{commands}\n```\n\nMade with seed {seeds}, {'; '.join(sorted(machines))}.\n"
