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

import yaml

from training.evaluation import plots
from training.evaluation.drills import columns_of, read_drills, recipe
from training.evaluation.evidence import OF_THE_TRIGGER, ROWS, Cell, Notes
from training.files import write_atomic
from training.stage import StageError

RESULTS_FOLDER = Path("docs/results")
BY_HAND = "<!-- Written by hand from here on: `sisa drill results` keeps it and makes anew what is above. -->"
FORGETTING_PLOT = "attacks on the forget list: accuracy or AUC, a point for each seed"
BACKDOORS_PLOT = "share of the other classes' test pictures that are taken for the target class"
Drill = Mapping[str, Any]


def write_results(folder: Path = RESULTS_FOLDER) -> list[Path]:
    """Write a page for each kind of drill that was run; raises StageError when none was."""
    drills = read_drills(folder / "drills")
    if not drills:
        raise StageError(
            f"{folder / 'drills'} holds no drill's result; copy there from reports/drills what is to be shown"
        )
    written = []
    kinds = (("forget", "forgetting", forgetting, forgetting_plot), ("backdoor", "backdoor", backdoors, backdoors_plot))
    for kind, name, page, plot in kinds:
        chosen = [drill for drill in drills if drill["drill"] == kind]
        if chosen:
            path, picture = folder / f"{name}.md", folder / f"{name}.svg"
            content = f"{page(chosen)}\n{BY_HAND}\n{by_hand(path)}"
            write_atomic(picture, plot(chosen).encode())
            write_atomic(path, content.encode())
            written += [path, picture]
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


def size_and_recipe(drill: Drill) -> object:
    return [drill["samples"], drill["recipe"]]


def grouped(drills: Iterable[Drill], key: Callable[[Drill], object]) -> list[list[Drill]]:
    """Drills of the same key together, in the order of their first."""
    groups: dict[str, list[Drill]] = {}
    for drill in drills:
        groups.setdefault(json.dumps(key(drill), sort_keys=True), []).append(drill)
    return list(groups.values())


def forgetting(drills: Sequence[Drill]) -> str:
    """Drills that differ in their seed alone are one table: mean ± standard deviation over the seeds."""
    parts = [
        "# Forgetting random samples\n",
        "In brackets: 95% intervals. ±: standard deviation, over the seeds where there are several, else over an "
        "attack's draws. An attack that guesses has 0.500.\n",
        f"![{FORGETTING_PLOT}](forgetting.svg)\n",
    ]
    for group in grouped(drills, size_and_recipe):
        parts.append(f"## {group[0]['samples']} samples, {recipe(group[0])}\n")
        table = ["| | before | after | retrained from scratch |", "|---|---|---|---|"]
        notes = Notes()
        by_name = {drill["name"]: columns_of(drill) for drill in group}
        for name, label, kind in ROWS:
            if name in (*OF_THE_TRIGGER, "seconds"):
                continue  # no backdoor in these; and what else a machine did meanwhile is in its seconds
            cells = [
                over_seeds({drill: columns[step][name] for drill, columns in by_name.items()})
                for step in columns_of(group[0])
            ]
            table.append(f"| {label} | {' | '.join(notes.mark(cell, kind) for cell in cells)} |")
        parts += ["\n".join(table) + "\n", *(f"{line}\n" for line in notes.lines())]
        if all("identical" in drill for drill in group):
            same, of = (sum(drill["identical"][key] for drill in group) for key in ("shards", "of"))
            parts.append(f"Byte for byte the same after forgetting as from scratch: {same} of {of} shards.\n")
        parts.append(provenance(group))
    return "\n".join(parts)


def forgetting_plot(drills: Sequence[Drill]) -> str:
    """The attacks on the list, a point for each drill."""
    several = len(grouped(drills, size_and_recipe)) > 1
    rows = [
        {
            "what": f"{label}; {drill['samples']} samples, {recipe(drill)}" if several else label,
            "step": step,
            "value": column[name]["value"],
        }
        for name, label, _ in ROWS
        if name in ("reference_attack", "loss_auc", "ratio_auc")
        for drill in drills
        for step, column in columns_of(drill).items()
        if "value" in column[name]
    ]
    return plots.picture(plots.steps(rows, FORGETTING_PLOT, guide=0.5), FORGETTING_PLOT)


def backdoors_plot(drills: Sequence[Drill]) -> str:
    """Attack success of each drill, beside what is taken for the target class without a trigger."""
    rows = []
    for drill in drills:
        columns = columns_of(drill)
        points = {
            "before": columns["before"]["attack_success"],
            "after": columns["after"]["attack_success"],
            "after, without the trigger": columns["after"]["attack_floor"],
        }
        for step, cell in points.items():
            if "value" in cell:
                low, high = cell.get("interval", (None, None))
                rows.append({"what": drill["name"], "step": step, "value": cell["value"], "low": low, "high": high})
    return plots.picture(plots.steps(rows, BACKDOORS_PLOT), BACKDOORS_PLOT)


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
        f"![{BACKDOORS_PLOT}](backdoor.svg)\n",
    ]
    for group in grouped(drills, lambda drill: {**drill["recipe"], "poison": None}):
        parts.append(f"## {recipe(group[0])}\n")
        table = [f"| drill | poison | trigger | found | {' | '.join(cells)} |", "|" + "---|" * (4 + len(cells))]
        notes = Notes()
        for drill in group:
            columns = columns_of(drill)
            changes = [
                " → ".join(notes.mark(columns[step][name], "share") for step in ("before", "after"))
                for name in cells.values()
            ]
            table.append(f"| {' | '.join([*setting(drill), *changes])} |")
        parts += ["\n".join(table) + "\n", *(f"{line}\n" for line in notes.lines()), provenance(group)]
    return "\n".join(parts)


def setting(drill: Drill) -> list[str]:
    """What was poisoned, how it was marked and how much of it was found."""
    poison = drill["recipe"]["poison"]
    trigger = poison["trigger"]
    whose = "other classes, relabelled" if poison["relabel"] else "class"
    side = trigger["size"]
    return [
        drill["name"],
        f"{poison['samples']} pictures of {whose} {poison['target_class']}",
        f"{side} × {side}, grey {trigger['value']}, {trigger['position']}",
        f"{100 * drill['found']:g}%",
    ]


def over_seeds(cells: Mapping[str, Cell]) -> Cell:
    """The cells of several drills as one: mean and standard deviation, or what is absent for which drill."""
    missing = {drill: cell["absent"] for drill, cell in cells.items() if "absent" in cell}
    different = list({json.dumps(cell, sort_keys=True): cell for cell in cells.values()}.values())
    if len(different) == 1:
        return different[0]
    if missing:
        return {"absent": "; ".join(f"{drill}: {reason}" for drill, reason in missing.items())}
    values = [cell["value"] for cell in cells.values()]
    return {"value": mean(values), "spread": stdev(values)}


def provenance(drills: Sequence[Drill]) -> str:
    """Commands, seeds, versions and machines, and the parameters that the commands found."""
    commands = "\n".join(drill["command"] for drill in drills)
    machines = {", ".join(f"{name} {value}" for name, value in drill["environment"].items()) for drill in drills}
    different = sorted({drill["seed"] for drill in drills})
    seeds = f"seed{'s' if len(different) > 1 else ''} {', '.join(map(str, different))}"
    params = {name: part for name, part in drills[0]["recipe"].items() if name != "poison"}
    return (
        f"```sh\n{commands}\n```\n\nMade with {seeds}, {'; '.join(sorted(machines))}, and these parameters:\n\n"
        f"```yaml\n{yaml.safe_dump(params, sort_keys=False, default_flow_style=None, width=110)}```\n"
    )
