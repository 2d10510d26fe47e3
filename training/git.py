"""Asks git about a workspace, and has it do things there."""

from __future__ import annotations

import subprocess

from training.errors import GitError
from training.workspace import Workspace


def ask_git(workspace: Workspace, *arguments: str) -> str | None:
    """What git prints; None where there is no git or no repository, or git refuses."""
    try:
        done = _git(workspace, arguments)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def run_git(workspace: Workspace, *arguments: str) -> None:
    """Raises GitError with what git said when it fails."""
    done = _git(workspace, arguments)
    if done.returncode != 0:
        raise GitError(f"`git {' '.join(arguments)}` failed: {(done.stderr or done.stdout).strip()}")


def _git(workspace: Workspace, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=workspace.root, check=False, capture_output=True, text=True)
