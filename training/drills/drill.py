"""Runs a drill: before, after, retrained from scratch: before it, after it, and without what is deleted.

"before" and "after" happen in one workspace, ``.drills/NAME/unlearned``, as a deletion does in the
project; "retrained" in another one, ``.drills/NAME/scratch``, that never holds the samples.
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
from training.drills.project_copy import begin
from training.environment import environment
from training.errors import DrillError
from training.files import write_atomic
from training.params import Params
from training.report.drill_results import RESULT, Column, DrillResult, Identical, Recipe, Step
from training.report.evidence import Evidence, collect
from training.workspace import Workspace

logger = logging.getLogger(__name__)

FOLDERS: Mapping[Step, str] = {"before": "unlearned", "after": "unlearned", "retrained": "scratch"}
MEANING: Mapping[Step, str] = {
    "before": "train with the samples, which are only monitored",
    "after": "forget them: retrain what they touched",
    "retrained": "train from scratch what never had them, for reference",
}


@dataclass(frozen=True)
class Drill:
    """What is rehearsed.

    ``name``: of the drill's folder below ``.drills/`` and of its result. ``command``: what a person types
    to repeat it. ``params``: of every step, but for ``forget.apply``. ``sample_ids``: the forget list.
    ``about``: what results of this kind say beside that, ``samples`` or ``found``.
    """

    name: str
    kind: Literal["forget", "backdoor"]
    title: str
    command: str
    params: Params
    sample_ids: tuple[str, ...]
    steps: tuple[Step, ...]
    about: Mapping[str, float]


def run_drill(
    project: Workspace, drill: Drill, *, fresh: bool = False, run: Callable[[Workspace], object] = dvc.reproduce
) -> DrillResult:
    """Carry out a drill's steps; its result, which is also written to ``reports/drills/NAME.json``.

    Steps that were carried out before are not repeated, unless ``fresh``. ``run``: brings a workspace's models and
    reports to its parameters and lists. Raises DrillError when the name leads elsewhere, when a drill of that name was
    begun with other settings or code, or when a run fails.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", drill.name):
        raise DrillError(f"--name {drill.name!r}: letters, digits, '.', '_' and '-' only, it names a file and a folder")
    home, params = project.drills_folder / drill.name, parameters(project, drill)
    settings = {"params": params, "steps": list(drill.steps), "ids": list(drill.sample_ids)}
    begin(project, home, tuple(dict.fromkeys(FOLDERS[step] for step in drill.steps)), settings, fresh)
    columns: dict[Step, Column] = {}
    for number, step in enumerate(drill.steps, start=1):
        logger.info("%s: step %d of %d, %s: %s", drill.name, number, len(drill.steps), step, MEANING[step])
        evidence = take_step(home, step, params, drill.sample_ids, run)
        columns[step] = Column.model_validate(evidence.model_dump(mode="json", exclude_none=True))
    document = drill.params.model_dump(mode="json")
    result = RESULT.validate_python(
        {
            "name": drill.name,
            "drill": drill.kind,
            "title": drill.title,
            "command": drill.command,
            **drill.about,
            "seed": drill.params.seed,
            "recipe": {part: document[part] for part in Recipe.model_fields},  # data.root as written, no path of here
            "environment": environment("torch", "onnxruntime", "dvc", "scikit-learn"),
            "columns": columns,
            "identical": identical(home) if "retrained" in columns else None,
        }
    )
    write_atomic(project.drill_reports / f"{drill.name}.json", result.to_bytes())
    return result


def parameters(project: Workspace, drill: Drill) -> dict[str, Any]:
    """The drill's params.yaml but for ``forget``, with the source where the project has it."""
    document = drill.params.model_dump(mode="json", exclude={"forget", "publish", "serve"})  # those are the project's
    document["data"]["root"] = str(project.source_folder(drill.params))
    return document


def take_step(
    home: Path,
    step: Step,
    params: Mapping[str, Any],
    sample_ids: tuple[str, ...],
    run: Callable[[Workspace], object],
) -> Evidence:
    """One step's evidence, from its run or, when it was carried out before, from its record."""
    record = home / f"{step}.json"
    if record.is_file():
        logger.info("done before")
        try:
            return Evidence.model_validate_json(record.read_bytes())
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DrillError(f"{record} is damaged ({problem}); start again with --fresh") from error
    folder = home / FOLDERS[step]
    document = {**params, "forget": {"apply": step != "before"}}
    write_atomic(folder / "params.yaml", yaml.safe_dump(document, sort_keys=False).encode())
    workspace = Workspace(folder)
    lines = "".join(f"{sample_id}\n" for sample_id in sample_ids)
    write_atomic(workspace.forget_folder / "drill.txt", lines.encode())
    run(workspace)
    evidence = collect(workspace)
    write_atomic(record, evidence.model_dump_json(indent=2).encode())
    return evidence


def identical(home: Path) -> Identical:
    """How many shards' published models are the same file after forgetting as after training from scratch.

    Raises DrillError when models were removed since.
    """
    unlearned, scratch = (published(Workspace(home / FOLDERS[step])) for step in ("after", "retrained"))
    same = sum(ours.sha256 == theirs.sha256 for ours, theirs in zip(unlearned.shards, scratch.shards, strict=True))
    return Identical(shards=same, of=len(scratch.shards))


def published(workspace: Workspace) -> Manifest:
    try:
        return Manifest.model_validate_json(workspace.manifest_file.read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise DrillError(f"{workspace.manifest_file} is missing or damaged; start again with --fresh") from error
