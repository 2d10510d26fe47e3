"""Drills: the story of a deletion from before to after, by real DVC runs in workspaces of their own.

A drill only reads the project it is started in; its workspaces are ``.drills/NAME/*``. It can be
stopped at any point: the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from training.evaluation.evidence import ROWS, Notes, absent, collect, complete
from training.files import json_bytes, read_json, remove, write_atomic
from training.params import Params, Poison
from training.paths import DRILL_REPORTS, DRILLS_FOLDER, FORGET_FOLDER, MANIFEST_FILE
from training.stage import StageError

# All that a run depends on; data stay where they are.
PROJECT = ("training", "serving", "dvc.yaml", ".dvcignore", "models/initial")
# Without git: nothing of a drill is to be committed.
DVC_CONFIG = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"

Step = Literal["before", "after", "retrained"]
STEPS: Mapping[Step, str] = {
    "before": "train with the samples, which are only watched",
    "after": "forget them: retrain what they touched",
    "retrained": "train from scratch what never had them, for reference",
}


class Recipe(BaseModel):
    """The sections of the parameters that make a drill's numbers."""

    data: dict[str, Any]
    sisa: dict[str, Any]
    network: dict[str, Any]
    training: dict[str, Any]
    poison: Poison


class Column(BaseModel):
    cells: dict[str, dict[str, Any]]


class Result(BaseModel):
    """The parts of a drill's result that a reader of it counts on."""

    name: str
    title: str
    command: str
    seed: int
    recipe: Recipe
    environment: dict[str, str]
    columns: dict[Step, Column]


class ForgetResult(Result):
    drill: Literal["forget"]
    samples: int


class BackdoorResult(Result):
    drill: Literal["backdoor"]
    found: float


RESULT: TypeAdapter[Result] = TypeAdapter(Annotated[ForgetResult | BackdoorResult, Field(discriminator="drill")])


def read_drills(folder: Path) -> list[dict[str, Any]]:
    """Every drill's result in a folder; raises StageError naming a file that is none."""
    return [read_drill(path) for path in sorted(folder.glob("*.json"))]


def read_drill(path: Path) -> dict[str, Any]:
    mend = f"take it back from where you keep it (`git checkout {path}`) or out of {path.parent}"
    document = read_json(path, mend)
    try:
        RESULT.validate_python(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise StageError(f"{path} is not the result of a drill ({problems}); {mend}") from error
    return document


def recipe(result: Mapping[str, Any]) -> str:
    """What was trained, in a few words."""
    parts = result["recipe"]
    return (
        f"{parts['data']['source']}, {parts['network']['name']}, {len(parts['sisa']['shards'])} shards × "
        f"{parts['sisa']['slices']} slices × {parts['training']['epochs_per_slice']} epochs"
    )


def run_drill(
    name: str,
    params: Params,
    sample_ids: Sequence[str],
    *,
    steps: Sequence[Step],
    story: Mapping[str, Any],
    fresh: bool,
) -> dict[str, Any]:
    """Carry out ``steps`` with ``sample_ids`` as the forget list; the result, also as ``reports/drills/NAME.json``.

    ``story``: what the drill was about, for the reader. Raises StageError when a workspace of that
    name was begun with other settings or code, or a DVC run fails.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise StageError(f"--name {name!r}: letters, digits, '.', '_' and '-' only, it names a file and a folder")
    console, home = Console(), DRILLS_FOLDER / name
    root = {**params.model_dump(mode="json")["data"], "root": str(params.data.root.resolve())}
    document = {**params.model_dump(mode="json"), "data": root}
    shaping = {
        part: document[part] for part in ("seed", "device", *Recipe.model_fields)
    }  # serving and lists are the project's own
    begin(home, {"params": shaping, "steps": list(steps), "ids": list(sample_ids), "code": code_digest()}, fresh)
    columns: dict[str, Any] = {}
    for number, step in enumerate(steps, start=1):
        console.rule(f"{name}: step {number} of {len(steps)}, {step}: {STEPS[step]}")
        columns[step] = take(home, step, document, sample_ids)
    result: dict[str, Any] = {
        "name": name,
        **story,
        "seed": params.seed,
        "recipe": {part: document[part] for part in Recipe.model_fields},
        "environment": environment(),
        "columns": columns,
    }
    result["recipe"]["data"] = {**root, "root": str(params.data.root)}  # as written, no path of this machine
    if "retrained" in columns:
        result["identical"] = identical(home)
    write_atomic(DRILL_REPORTS / f"{name}.json", json_bytes(result))
    show(result, console)
    return result


def begin(home: Path, settings: Mapping[str, Any], fresh: bool) -> None:
    """Make the drill's workspaces, or find those of the same settings and code."""
    record = home / "drill.json"
    if fresh and home.exists():
        remove(home)
    if record.is_file():
        if read_json(record, "start anew with --fresh") != settings:
            raise StageError(
                f"{home} was begun with other settings or code; finish it with those, take another --name, "
                "or start anew with --fresh"
            )
        return
    if home.exists():  # stopped while it was made
        remove(home)
    for workspace in (home / "unlearned", home / "scratch"):
        copy_project(workspace)
    write_atomic(record, json_bytes(settings))


def copy_project(workspace: Path) -> None:
    for name in PROJECT:
        source, target = Path(name), workspace / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, target)
        else:
            raise StageError(f"{source} is missing; start drills in the project's folder")
    write_atomic(workspace / ".dvc/config", DVC_CONFIG.encode())
    (workspace / DRILL_REPORTS).mkdir(parents=True)


def code_digest() -> str:
    """Digest of every file that a drill copies."""
    digest = hashlib.sha256()
    for name in PROJECT:
        files = (
            sorted(path for path in Path(name).rglob("*") if path.is_file()) if Path(name).is_dir() else [Path(name)]
        )
        for path in files:
            if "__pycache__" not in path.parts and path.is_file():
                digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def take(home: Path, step: Step, document: Mapping[str, Any], sample_ids: Sequence[str]) -> dict[str, Any]:
    """One step's evidence, from its DVC run or, when it was taken before, from its record."""
    record = home / f"{step}.json"
    if record.is_file():
        print(f"{step}: done before")
        return read_json(record, "start anew with --fresh")
    workspace = home / ("scratch" if step == "retrained" else "unlearned")
    params = {**document, "forget": {"apply": step != "before"}}
    write_atomic(workspace / "params.yaml", yaml.safe_dump(params, sort_keys=False).encode())
    write_atomic(workspace / FORGET_FOLDER / "drill.txt", "".join(f"{name}\n" for name in sample_ids).encode())
    run_dvc(workspace, "repro", "evaluate", "membership", "backdoor")  # all that evidence needs
    evidence = collect(workspace)
    write_atomic(record, json_bytes(evidence))
    return evidence


def run_dvc(workspace: Path, *arguments: str) -> None:
    """Run DVC where the progress can be seen; raises StageError when it fails."""
    # The stages' `python` is to be the one that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=workspace, env={**os.environ, "PATH": path}, check=False
    )
    if done.returncode != 0:
        raise StageError(
            f"`dvc {' '.join(arguments)}` failed in {workspace}; mend the cause and run the same command again"
        )


def identical(home: Path) -> dict[str, Any]:
    """How many shards' models are the same file, byte for byte, after forgetting as after training from scratch."""
    unlearned, scratch = (read_json(home / side / MANIFEST_FILE)["shards"] for side in ("unlearned", "scratch"))
    same = sum(ours["sha256"] == theirs["sha256"] for ours, theirs in zip(unlearned, scratch, strict=True))
    return {"shards": same, "of": len(scratch)}


def environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "onnxruntime", "dvc", "scikit-learn")},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def columns_of(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Before, after and retrained from scratch, each a column of cells."""
    nothing = absent("this drill trains no reference from scratch; `sisa drill forget` does")
    taken = result["columns"]
    return {step: complete(taken[step]["cells"]) if step in taken else nothing for step in STEPS}


def show(result: Mapping[str, Any], console: Console) -> None:
    columns, notes = columns_of(result), Notes()
    table = Table("", "before", "after", "retrained from scratch", title=result["title"])
    for name, label, kind in ROWS:
        table.add_row(label, *(notes.mark(column[name], kind) for column in columns.values()))
    console.print(table)
    for line in notes.lines():
        console.print(line, highlight=False, markup=False)
    if "identical" in result:
        console.print(
            "byte for byte the same after forgetting as from scratch: {shards} of {of} shards".format(
                **result["identical"]
            )
        )
    console.print(f"{DRILL_REPORTS / result['name']}.json")
