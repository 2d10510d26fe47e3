"""The workspaces of a drill: copies of the project's code, begun once with one set of settings.

A drill can be stopped at any point and resumed by the same command. Resumed with other settings or
code it would compare models that nothing made comparable, so that is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from training.errors import DamagedError, DrillError
from training.files import json_bytes, read_json, remove, sha256_file, write_atomic
from training.workspace import Workspace

# All that a run depends on; data stay where they are.
COPIED = ("training", "serving", "dvc.yaml", ".dvcignore", "models/initial", "data/subjects")
# Without git: nothing of a drill is to be committed.
DVC_CONFIG = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"


def begin(project: Workspace, home: Path, names: tuple[str, ...], settings: Mapping[str, object], fresh: bool) -> None:
    """Make ``home`` with a copy of the project of each name, or find those of the same settings and code.

    ``fresh``: delete what is there first. Raises DrillError when they were begun with others.
    """
    record, asked = home / "drill.json", {**settings, "code": code_digest(project)}
    if fresh and home.exists():
        remove(home)
    if record.is_file():
        try:
            begun = read_json(record)
        except DamagedError as error:
            raise DrillError(f"{error}; start again with --fresh") from error
        if begun != asked:
            raise DrillError(
                f"{home} was begun with other settings or code; finish it with those, take another --name, "
                "or start again with --fresh"
            )
        return
    if home.exists():  # stopped while it was made
        remove(home)
    for name in names:
        copy_project(project, Workspace(home / name))
    write_atomic(record, json_bytes(asked))


def copy_project(project: Workspace, copy: Workspace) -> None:
    """Make ``copy``, a workspace in which only parameters and lists are missing."""
    for name in COPIED:
        source, target = project.root / name, copy.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    write_atomic(copy.root / ".dvc/config", DVC_CONFIG.encode())
    copy.drill_reports.mkdir(parents=True)  # a dependency of its report


def keep(workspace: Workspace, *homes: Path) -> None:
    """Copy a workspace as it stands, once more where that was begun before; a model or checkpoint takes no space twice.

    Those are only ever replaced by other files, never written to, so the copies hold them by links.
    """
    for home in homes:
        if home.exists():
            remove(home)
        shutil.copytree(workspace.root, home, copy_function=_copy, ignore=shutil.ignore_patterns("tmp", "cache"))


def _copy(source: str, target: str) -> None:
    if Path(source).suffix in (".onnx", ".safetensors"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def code_digest(project: Workspace) -> str:
    """Hex SHA-256 of the names and bytes of every file that a drill copies. Raises DrillError when one is missing."""
    lines = []
    for name in COPIED:
        path = project.root / name
        if not path.exists():
            raise DrillError(f"{path} is missing; a drill copies it from the project's folder")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.parent.name != "__pycache__":
                lines.append(f"{file.relative_to(project.root).as_posix()}\0{sha256_file(file)}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
