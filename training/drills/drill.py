"""Runs a drill: before, after, retrained from scratch: before it, after it, and without what is deleted.

"before" and "after" happen in one workspace, ``.drills/NAME/unlearned``, as a deletion does in the
project; "retrained" in another one, ``.drills/NAME/scratch``, that never holds the samples. What "before" came to is
copied to ``.drills/NAME/kept``, for an attacker who has both generations, and for the control to ``cheated``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from serving.ensemble.manifest import Manifest
from training.drills import dvc
from training.drills.both_generations import attack_with_both
from training.drills.cheat import pass_off
from training.drills.control import judge_control
from training.drills.hard import Hard, choose
from training.drills.project_copy import begin, keep
from training.environment import environment
from training.errors import DrillError
from training.files import json_bytes, read_json, write_atomic
from training.params import Params
from training.report.drill_results import RESULT, Column, DrillResult, Identical, Recipe, Step
from training.report.evidence import Evidence, collect
from training.workspace import Workspace

logger = logging.getLogger(__name__)

FOLDERS: Mapping[Step, str] = {
    "before": "unlearned",
    "after": "unlearned",
    "retrained": "scratch",
    "cheated": "cheated",
}
MEANING: Mapping[Step, str] = {
    "before": "train with the samples, which are only monitored",
    "after": "forget them: retrain what they touched",
    "retrained": "train from scratch what never had them, for reference",
    "cheated": "the control: pass off the models from before as retrained ones",
}
COPIES: tuple[Step, ...] = ("cheated",)  # of what "before" came to, not of the project

Run = Callable[..., object]  # of a workspace and of stages, that are brought to its parameters and lists


@dataclass(frozen=True)
class Drill:
    """What is rehearsed.

    ``name``: of the drill's folder below ``.drills/`` and of its result. ``command``: what a person types
    to repeat it. ``params``: of every step, but for ``forget.apply``. ``sample_ids``: the forget list; empty where
    ``hard`` names how that many samples are chosen once there are models. ``about``: what results of this kind say
    beside that, ``samples`` or ``found``.
    """

    name: str
    kind: Literal["forget", "backdoor"]
    title: str
    command: str
    params: Params
    sample_ids: tuple[str, ...]
    steps: tuple[Step, ...]
    about: Mapping[str, float]
    hard: Hard | None = None


def run_drill(project: Workspace, drill: Drill, *, fresh: bool = False, run: Run = dvc.reproduce) -> DrillResult:
    """Carry out a drill's steps; its result, which is also written to ``reports/drills/NAME.json``.

    Steps that were carried out before are not repeated, unless ``fresh``. Raises DrillError when the name leads
    elsewhere, when a drill of that name was begun with other settings or code, when the samples cannot be chosen, or
    when a run fails.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", drill.name):
        raise DrillError(f"--name {drill.name!r}: letters, digits, '.', '_' and '-' only, it names a file and a folder")
    home, params = project.drills_folder / drill.name, parameters(project, drill)
    settings = {"params": params, "steps": list(drill.steps), "ids": list(drill.sample_ids), "hard": drill.hard}
    copied = dict.fromkeys(FOLDERS[step] for step in drill.steps if step not in COPIES)
    begin(project, home, tuple(copied), settings, fresh)
    ids = drill.sample_ids if drill.hard is None else hard_ids(home, drill, drill.hard, params, run)
    columns: dict[Step, Column] = {}
    for number, step in enumerate(drill.steps, start=1):
        logger.info("%s: step %d of %d, %s: %s", drill.name, number, len(drill.steps), step, MEANING[step])
        evidence = take_step(home, step, params, ids, run)
        columns[step] = Column.model_validate(evidence.model_dump(mode="json", exclude_none=True))
    document = drill.params.model_dump(mode="json")
    result = RESULT.validate_python(
        {
            "name": drill.name,
            "drill": drill.kind,
            "title": drill.title,
            "command": drill.command,
            **drill.about,
            **({"hard": drill.hard} if drill.hard is not None else {}),
            "seed": drill.params.seed,
            "recipe": {part: document[part] for part in Recipe.model_fields},  # data.root as written, no path of here
            "environment": environment("torch", "onnxruntime", "dvc", "scikit-learn"),
            "columns": columns,
            "identical": identical(home) if "retrained" in columns else None,
            **(compared(home, columns) if drill.kind == "forget" else {}),
        }
    )
    write_atomic(project.drill_reports / f"{drill.name}.json", result.to_bytes())
    return result


def compared(home: Path, columns: Mapping[Step, Column]) -> dict[str, object]:
    """What results of forgetting say of two generations together, and of the control."""
    unlearned, kept = Workspace(home / FOLDERS["after"]), Workspace(home / "kept")
    found: dict[str, object] = {"both_generations": attack_with_both(unlearned, kept.models_folder)}
    if "cheated" in columns:
        logger.info("the control: verifying what was forgotten, and what was only passed off")
        cheated = Workspace(home / FOLDERS["cheated"])
        shards, _ = differing(unlearned, cheated)
        found["control"] = judge_control(unlearned, cheated, shards, columns["after"].cells, columns["cheated"].cells)
    return found


def parameters(project: Workspace, drill: Drill) -> dict[str, Any]:
    """The drill's params.yaml but for ``forget``, with the source where the project has it."""
    document = drill.params.model_dump(mode="json", exclude={"forget", "publish", "serve"})  # those are the project's
    document["data"]["root"] = str(project.source_folder(drill.params))
    return document


def hard_ids(home: Path, drill: Drill, hard: Hard, params: Mapping[str, Any], run: Run) -> tuple[str, ...]:
    """The samples of a set that is hard to forget, chosen once: by models that are trained on everything."""
    record = home / "chosen.json"
    if record.is_file():
        return tuple(read_json(record)["ids"])
    workspace = Workspace(home / FOLDERS["before"])
    logger.info("%s: training with everything, to choose what is forgotten", drill.name)
    write_settings(workspace, params, apply=False, sample_ids=())
    run(workspace, "evaluate")
    ids = choose(workspace, hard, int(drill.about["samples"]))
    write_atomic(record, json_bytes({"ids": list(ids)}))
    return ids


def take_step(home: Path, step: Step, params: Mapping[str, Any], sample_ids: tuple[str, ...], run: Run) -> Evidence:
    """One step's evidence, from its run or, when it was carried out before, from its record."""
    record = home / f"{step}.json"
    if record.is_file():
        logger.info("done before")
        try:
            return Evidence.model_validate_json(record.read_bytes())
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DrillError(f"{record} is damaged ({problem}); start again with --fresh") from error
    workspace = Workspace(home / FOLDERS[step])
    if step == "cheated":
        keep(Workspace(home / "kept"), workspace.root)
    write_settings(workspace, params, apply=step != "before", sample_ids=sample_ids)
    if step == "cheated":
        run(workspace, "schedule")
        pass_off(Workspace(home / "kept"), workspace)
    run(workspace, *dvc.JUDGED)
    evidence = collect(workspace)
    if step == "before":
        keep(workspace, home / "kept")
    write_atomic(record, evidence.model_dump_json(indent=2).encode())
    return evidence


def write_settings(
    workspace: Workspace, params: Mapping[str, Any], *, apply: bool, sample_ids: tuple[str, ...]
) -> None:
    """``apply``: whether what is listed is forgotten, or only monitored."""
    document = {**params, "forget": {"apply": apply}}
    write_atomic(workspace.root / "params.yaml", yaml.safe_dump(document, sort_keys=False).encode())
    lines = "".join(f"{sample_id}\n" for sample_id in sample_ids)
    write_atomic(workspace.forget_folder / "drill.txt", lines.encode())


def identical(home: Path) -> Identical:
    """How many shards' published models are the same file after forgetting as after training from scratch.

    Raises DrillError when models were removed since.
    """
    others, every = differing(*(Workspace(home / FOLDERS[step]) for step in ("after", "retrained")))
    return Identical(shards=every - len(others), of=every)


def differing(one: Workspace, other: Workspace) -> tuple[list[int], int]:
    """The shards whose published models are not the same file, and how many shards there are. Raises as above."""
    pairs = list(zip(published(one).shards, published(other).shards, strict=True))
    return [ours.shard for ours, theirs in pairs if ours.sha256 != theirs.sha256], len(pairs)


def published(workspace: Workspace) -> Manifest:
    try:
        return Manifest.model_validate_json(workspace.manifest_file.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise DrillError(f"{workspace.manifest_file} is missing or damaged; start again with --fresh") from error
