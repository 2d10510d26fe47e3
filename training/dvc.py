"""Runs DVC in a workspace, as a person would there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from training.errors import DvcError
from training.workspace import Workspace


def run_dvc(workspace: Workspace, *arguments: str) -> None:
    """Run DVC with its progress in sight. Raises DvcError when it fails."""
    if _dvc(workspace, arguments, capture=False).returncode != 0:
        raise DvcError(
            f"`dvc {' '.join(arguments)}` failed in {workspace.root}; fix the cause and run the same command again"
        )


def ask_dvc(workspace: Workspace, *arguments: str) -> str:
    """What DVC prints. Raises DvcError with what it said when it fails."""
    done = _dvc(workspace, arguments, capture=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DvcError(
            f"`dvc {' '.join(arguments)}` failed in {workspace.root}: {said[-1] if said else 'it said nothing'}"
        )
    return done.stdout


def _dvc(workspace: Workspace, arguments: tuple[str, ...], *, capture: bool) -> subprocess.CompletedProcess[str]:
    lock = workspace.root / ".dvc/tmp/rwlock"
    if lock.is_file() and not lock.stat().st_size:
        lock.unlink()  # a killed DVC leaves it empty, and then the next one cannot read it
    # The stages' `python` is to be the one that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=workspace.root,
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=capture,
        text=True,
    )
