"""Stage report: the report on this generation, beside the one before."""

from __future__ import annotations

from training.files import write_atomic
from training.publish.candidate import read_release
from training.publish.history import read_history
from training.report.drill_results import read_drills
from training.report.evidence import collect
from training.report.history import read_kept, remember, write_kept
from training.report.page import draw, render
from training.stages.run import run
from training.workspace import Workspace


def report(workspace: Workspace) -> None:
    """Raises DamagedError, LedgerError or DrillError when a report, the ledger or a drill is damaged."""
    drills = read_drills(workspace.drill_reports)
    now = collect(workspace)
    history = remember(read_kept(workspace), now, read_history(workspace))
    release = read_release(workspace)
    models = [str(shard.sha256) for shard in release.voters]
    html, markdown = render(now, history, drills, draw(workspace), models=models, aggregation=release.aggregation)
    write_kept(workspace, history)
    write_atomic(workspace.report("report.html"), html.encode())
    write_atomic(workspace.report("report.md"), markdown.encode())
    print(workspace.report("report.html"))


if __name__ == "__main__":
    run(report)
