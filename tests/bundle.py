"""A bento of models small enough to do by hand, built by BentoML as `make bento` does it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from server import FLAT, REPOSITORY, publish


def run(*command: str | Path, cwd: Path = REPOSITORY, **environment: str) -> str:
    """What a command prints. Raises AssertionError with all that it said when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_bento(folder: Path, store: Path) -> Path:
    """The bento's folder in ``store``, of generation 3; ``folder``: where its sources go."""
    for name in ("serving", "bentofile.yaml", "params.yaml", "README.md"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    publish(folder / "models", 3, [FLAT, FLAT, FLAT])
    home = {"BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True"}
    tag = run(sys.executable, "-m", "bentoml", "build", "--output", "tag", cwd=folder, **home).split()[-1]
    return store / "bentos" / tag.removeprefix("__tag__:").replace(":", "/")
