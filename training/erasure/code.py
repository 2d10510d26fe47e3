"""Which code runs, and with which parameters, as git knows them."""

from __future__ import annotations

from training.erasure.bundle import Bundle
from training.errors import UncheckedError
from training.git import ask_git, refusal
from training.workspace import Workspace

CODE = ("training", "serving", "dvc.yaml", "params.yaml")


def commit_of(workspace: Workspace) -> str | None:
    """Hex, with ``+changes`` where files of the code differ from it; None without git."""
    commit = head(workspace)
    return f"{commit}+changes" if commit is not None and changed(workspace) else commit


def check_code(bundle: Bundle) -> str:
    """What runs is what git has, parameters included, so that somebody else can read it, and do the same.

    Raises UncheckedError where it is not.
    """
    if (reason := refusal(bundle.workspace)) is not None:
        raise UncheckedError(f"git does not answer here, so nothing can be compared with it: {reason}")
    commit = head(bundle.workspace)
    if hidden := ignored_changes(bundle.workspace):
        raise UncheckedError(
            f"git was told not to look at changes of {hidden[0]} (`git update-index --no-assume-unchanged "
            "--no-skip-worktree` undoes it), so what ran may not be what was reviewed"
        )
    if commit is None:
        return "not under version control: which code ran is not on record"
    if files := changed(bundle.workspace):
        raise UncheckedError(
            f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''} differs from what git has, so what "
            "ran may not be what was reviewed; commit or undo it, and verify then"
        )
    return f"code and parameters are those of commit {commit}"


def head(workspace: Workspace) -> str | None:
    """The commit, in hex; None without git."""
    shown = ask_git(workspace, "rev-parse", "HEAD")
    return None if shown is None else shown.strip()


def ignored_changes(workspace: Workspace) -> list[str]:
    """The files of the code whose changes git was told to ignore."""
    shown = ask_git(workspace, "ls-files", "-v", "--", *CODE) or ""
    return [line[2:] for line in shown.splitlines() if line[0].islower() or line[0] == "S"]


def changed(workspace: Workspace) -> list[str]:
    """The files of the code that differ from the commit, or that it does not have."""
    shown = ask_git(workspace, "status", "--porcelain", "--", *CODE) or ""
    return [line[3:] for line in shown.splitlines()]
