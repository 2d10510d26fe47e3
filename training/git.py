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


def refusal(workspace: Workspace) -> str | None:
    """Why git says nothing of a folder that has a ``.git``; None where it answers, or there is none.

    It refuses a repository of another user, say, as in a container; that must not pass for being without one.
    """
    if not any((folder / ".git").exists() for folder in (workspace.root, *workspace.root.parents)):
        return None
    try:
        done = _git(workspace, ("rev-parse", "--git-dir"))
    except FileNotFoundError:
        return "there is no git here"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it refuses"])[0]


def run_git(workspace: Workspace, *arguments: str) -> None:
    """Raises GitError with what git said when it fails."""
    done = _git(workspace, arguments)
    if done.returncode != 0:
        raise GitError(f"`git {' '.join(arguments)}` failed: {(done.stderr or done.stdout).strip()}")


def _git(workspace: Workspace, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=workspace.root, check=False, capture_output=True, text=True)
