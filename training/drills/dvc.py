"""What a drill has DVC do, in a workspace of its own or in the project."""

from __future__ import annotations

from training.dvc import run_dvc
from training.workspace import Workspace

JUDGED = ("evaluate", "membership", "backdoor")  # by these stages, all that evidence is collected from


def reproduce(workspace: Workspace, *stages: str) -> None:
    """Bring ``stages``, with all that they need, to the workspace's parameters and lists."""
    run_dvc(workspace, "repro", *stages)


def rebuild_report(workspace: Workspace) -> None:
    """Only the report, and only where there is one: the stages before it may be stale on purpose."""
    if workspace.report("report.html").is_file():
        run_dvc(workspace, "repro", "--single-item", "report")
