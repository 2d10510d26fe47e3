"""What a drill has DVC do, in a workspace of its own or in the project."""

from __future__ import annotations

from training.dvc import run_dvc
from training.workspace import Workspace


def reproduce(workspace: Workspace) -> None:
    """Bring models and reports to the workspace's parameters and lists: all that evidence is collected from."""
    run_dvc(workspace, "repro", "evaluate", "membership", "backdoor")


def rebuild_report(workspace: Workspace) -> None:
    """Only the report, and only where there is one: the stages before it may be stale on purpose."""
    if workspace.report("report.html").is_file():
        run_dvc(workspace, "repro", "--single-item", "report")
