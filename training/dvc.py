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
    # The stages' `python` is to be the one that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=workspace.root, env={**os.environ, "PATH": path}, check=False
    )
    if done.returncode != 0:
        raise DvcError(
            f"`dvc {' '.join(arguments)}` failed in {workspace.root}; fix the cause and run the same command again"
        )
