"""Published drills as pages of ``docs/results/``: what was run on what, and what came out.

    python -m benchmarks.drill_pages

The report shows the drills of a workspace, ``reports/drills/``; pages are made of copies of them in
``docs/results/drills/``, so that what was once published is not in everyone's report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar

import yaml

from benchmarks.pages import write_page
from training.errors import DrillError
from training.evaluation.reports import Absent
from training.files import write_atomic
from training.report import drawing
from training.report.cells import OF_THE_TRIGGER, ROWS, Cell, Notes, Value
from training.report.drill_results import (
    BackdoorResult,
    DrillResult,
    ForgetResult,
    Recipe,
    Step,
    columns_of,
    read_drills,
    setting,
)
from training.stages.run import guard

RESULTS_FOLDER = Path(__file__).parents[1] / "docs/results"
FORGETTING_PLOT = "attacks on the forget set: accuracy or AUC, a point for each seed"
BACKDOORS_PLOT = "share of other classes' test samples that are taken for the target class"
BEFORE_AND_AFTER: tuple[Step, ...] = ("before", "after")
AnyResult = TypeVar("AnyResult", bound=DrillResult)


def write_pages(folder: Path) -> list[Path]:
    """Write a page and its plot for each kind of drill in ``folder/drills``; the paths of what was written.

    Raises DrillError when there is no drill, or when a page has lost the line below which it is kept.
    """
    drills = read_drills(folder / "drills")
    if not drills:
        raise DrillError(
            f"{folder / 'drills'} holds no drill's result; copy there from reports/drills what is to be shown"
        )
    forget = [drill for drill in drills if isinstance(drill, ForgetResult)]
    backdoor = [drill for drill in drills if isinstance(drill, BackdoorResult)]
    written = []
    if forget:
        written += write_page_and_plot(folder / "forgetting", forgetting(forget), forgetting_plot(forget))
    if backdoor:
        written += write_page_and_plot(folder / "backdoor", backdoors(backdoor), backdoors_plot(backdoor))
    return written


def write_page_and_plot(stem: Path, page: str, plot: str) -> list[Path]:
    path, picture = stem.with_suffix(".md"), stem.with_suffix(".svg")
    write_page(path, page, "benchmarks.drill_pages")
    write_atomic(picture, plot.encode())
    return [path, picture]


def size_and_recipe(drill: ForgetResult) -> object:
    return [drill.samples, drill.recipe.model_dump(mode="json")]


def all_but_poison(recipe: Recipe) -> object:
    return recipe.model_dump(mode="json", exclude={"poison"})


def grouped(drills: Iterable[AnyResult], key: Callable[[AnyResult], object]) -> list[list[AnyResult]]:
    """Drills of the same key together, in the order of their first."""
    groups: dict[str, list[AnyResult]] = {}
    for drill in drills:
        groups.setdefault(json.dumps(key(drill), sort_keys=True), []).append(drill)
    return list(groups.values())


def forgetting(drills: Sequence[ForgetResult]) -> str:
    """Drills that differ in their seed alone are one table: mean ± standard deviation over the seeds."""
    parts = [
        "# Forgetting random samples\n",
        "In brackets: 95% intervals. ±: standard deviation, over the seeds where there are several, otherwise over an "
        "attack's draws. An attack that guesses has 0.500.\n",
        f"![{FORGETTING_PLOT}](forgetting.svg)\n",
    ]
    for group in grouped(drills, size_and_recipe):
        parts.append(f"## {group[0].samples} samples, {setting(group[0])}\n")
        table = ["| | before | after | retrained from scratch |", "|---|---|---|---|"]
        notes = Notes()
        by_name = {drill.name: columns_of(drill) for drill in group}
        for row in ROWS:
            if row.name in (*OF_THE_TRIGGER, "seconds"):
                continue  # there is no backdoor here; and seconds count what else the machine did meanwhile
            cells = [
                over_seeds({drill: columns[step][row.name] for drill, columns in by_name.items()})
                for step in columns_of(group[0])
            ]
            table.append(f"| {row.label} | {' | '.join(notes.mark(cell, row.kind) for cell in cells)} |")
        parts += ["\n".join(table) + "\n", *(f"{line}\n" for line in notes.lines())]
        counts = [drill.identical for drill in group if drill.identical is not None]
        if len(counts) == len(group):
            same, of = sum(count.shards for count in counts), sum(count.of for count in counts)
            parts.append(f"Byte for byte the same after forgetting as from scratch: {same} of {of} shards.\n")
        parts.append(provenance(group))
    return "\n".join(parts)


def forgetting_plot(drills: Sequence[ForgetResult]) -> str:
    """The attacks on the forget set, a point for each drill."""
    several = len(grouped(drills, size_and_recipe)) > 1
    rows = []
    for row in ROWS:
        if row.name not in ("reference_attack", "loss_auc", "ratio_auc"):
            continue
        for drill in drills:
            what = f"{row.label}; {drill.samples} samples, {setting(drill)}" if several else row.label
            for step, column in columns_of(drill).items():
                cell = column[row.name]
                if isinstance(cell, Value):
                    rows.append({"what": what, "step": step, "value": cell.value})
    return drawing.picture(drawing.steps(rows, FORGETTING_PLOT, guide=0.5), FORGETTING_PLOT)


def backdoors_plot(drills: Sequence[BackdoorResult]) -> str:
    """Attack success of each drill, beside what is taken for the target class without a trigger."""
    rows = []
    for drill in drills:
        columns = columns_of(drill)
        points = {
            "before": columns["before"]["attack_success"],
            "after": columns["after"]["attack_success"],
            "after, without the trigger": columns["after"]["attack_baseline"],
        }
        for step, cell in points.items():
            if isinstance(cell, Value):
                low, high = cell.interval or (None, None)
                rows.append({"what": drill.name, "step": step, "value": cell.value, "low": low, "high": high})
    return drawing.picture(drawing.steps(rows, BACKDOORS_PLOT), BACKDOORS_PLOT)


def backdoors(drills: Sequence[BackdoorResult]) -> str:
    """A table for each recipe, in it a row for each drill."""
    cells = {
        "attack success": "attack_success",
        "baseline": "attack_baseline",
        "recovery": "attack_recovery",
        "accuracy": "accuracy_mean",
    }
    parts = [
        "# Forgetting a backdoor\n",
        "Each cell: before → after forgetting what was found of the poison, by the mean of probabilities, with 95% "
        "intervals.\n",
        "- attack success: test samples of other classes that the trigger turns into the target class\n"
        "- baseline: the same samples without the trigger, taken for the target class by mistake\n"
        "- recovery: the same samples with the trigger, still given their true class\n"
        "- accuracy: all test samples, without the trigger\n",
        f"![{BACKDOORS_PLOT}](backdoor.svg)\n",
    ]
    for group in grouped(drills, lambda drill: all_but_poison(drill.recipe)):
        parts.append(f"## {setting(group[0])}\n")
        table = [f"| drill | poison | trigger | found | {' | '.join(cells)} |", "|" + "---|" * (4 + len(cells))]
        notes = Notes()
        for drill in group:
            columns = columns_of(drill)
            changes = [
                " → ".join(notes.mark(columns[step][name], "share") for step in BEFORE_AND_AFTER)
                for name in cells.values()
            ]
            table.append(f"| {' | '.join([drill.name, *poisoning(drill), *changes])} |")
        parts += ["\n".join(table) + "\n", *(f"{line}\n" for line in notes.lines()), provenance(group)]
    return "\n".join(parts)


def poisoning(drill: BackdoorResult) -> list[str]:
    """What was poisoned, how it was marked and how much of it was found."""
    poison = drill.recipe.poison
    trigger = poison.trigger
    whose = "other classes, relabelled" if poison.relabel else "class"
    return [
        f"{poison.samples} samples of {whose} {poison.target_class}",
        f"{trigger.size} × {trigger.size}, grey {trigger.value}, {trigger.position}",
        f"{100 * drill.found:g}%",
    ]


def over_seeds(cells: Mapping[str, Cell]) -> Cell:
    """The cells of several drills as one: mean and standard deviation, or what is absent for which drill."""
    first, *rest = cells.values()
    if all(cell == first for cell in rest):
        return first
    missing = {drill: cell.absent for drill, cell in cells.items() if isinstance(cell, Absent)}
    if missing:
        return Absent(absent="; ".join(f"{drill}: {reason}" for drill, reason in missing.items()))
    values = [cell.value for cell in cells.values() if isinstance(cell, Value)]
    return Value(value=mean(values), spread=stdev(values))


def provenance(drills: Sequence[DrillResult]) -> str:
    """Commands, seeds, versions and machines, and the parameters that the commands found."""
    commands = "\n".join(drill.command for drill in drills)
    machines = {", ".join(f"{name} {value}" for name, value in drill.environment.items()) for drill in drills}
    different = sorted({drill.seed for drill in drills})
    seeds = f"seed{'s' if len(different) > 1 else ''} {', '.join(map(str, different))}"
    params = yaml.safe_dump(all_but_poison(drills[0].recipe), sort_keys=False, default_flow_style=None, width=110)
    return (
        f"```sh\n{commands}\n```\n\nMade with {seeds}, {'; '.join(sorted(machines))}, and these parameters:\n\n"
        f"```yaml\n{params}```\n"
    )


def main() -> None:
    for path in write_pages(RESULTS_FOLDER):
        print(path.relative_to(RESULTS_FOLDER.parents[1]))


if __name__ == "__main__":
    guard(main)
