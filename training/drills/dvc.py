"""Runs DVC in a workspace, as a person would there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from training.errors import DrillError
from training.workspace import Workspace


def reproduce(workspace: Workspace) -> None:
    """Bring models and reports to the workspace's parameters and lists: all that evidence is collected from."""
    run_dvc(workspace, "repro", "evaluate", "membership", "backdoor")


def rebuild_report(workspace: Workspace) -> None:
    """Only the report, and only where there is one: the stages before it may be stale on purpose."""
    if workspace.report("report.html").is_file():
        run_dvc(workspace, "repro", "--single-item", "report")


def run_dvc(workspace: Workspace, *arguments: str) -> None:
    """Run DVC with its progress in sight. Raises DrillError when it fails."""
    # The stages' `python` is to be the one that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=workspace.root, env={**os.environ, "PATH": path}, check=False
    )
    if done.returncode != 0:
        raise DrillError(
            f"`dvc {' '.join(arguments)}` failed in {workspace.root}; fix the cause and run the same command again"
        )
