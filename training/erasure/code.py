"""Which code runs, as git knows it."""

from __future__ import annotations

import subprocess

from training.erasure.bundle import Bundle
from training.errors import UncheckedError
from training.workspace import Workspace

CODE = ("training", "serving", "dvc.yaml")


def commit_of(workspace: Workspace) -> str | None:
    """Hex, with ``+changes`` where files of the code differ from it; None without git."""
    commit = git(workspace, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if changed(workspace) else commit


def check_code(bundle: Bundle) -> str:
    """What runs is what git has, so that somebody else can read it. Raises UncheckedError where it is not."""
    commit = git(bundle.workspace, "rev-parse", "HEAD")
    if commit is None:
        return "not under version control: which code ran is not on record"
    if files := changed(bundle.workspace):
        raise UncheckedError(
            f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''} differs from what git has, so what "
            "ran may not be what was reviewed; commit or undo it, and verify then"
        )
    return f"the code is that of commit {commit}"


def changed(workspace: Workspace) -> list[str]:
    """The files of the code that differ from the commit, or that it does not have."""
    shown = git(workspace, "status", "--porcelain", "--", *CODE) or ""
    return [line[3:] for line in shown.splitlines()]


def git(workspace: Workspace, *arguments: str) -> str | None:
    """What git prints, without blanks around it; None where git or a repository is missing."""
    try:
        done = subprocess.run(["git", *arguments], cwd=workspace.root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None
