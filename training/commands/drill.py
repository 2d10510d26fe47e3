"""Drills: deletions rehearsed, from before to after."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import guarded, project

if TYPE_CHECKING:
    from training.drills.drill import Drill
    from training.report.drill_results import DrillResult
    from training.workspace import Workspace

drill = typer.Typer(
    help="Rehearse a deletion, from before to after, in workspaces of its own (.drills/).", no_args_is_help=True
)

Name = Annotated[str, typer.Option(help="names the workspaces and the result, reports/drills/NAME.json")]
Fresh = Annotated[bool, typer.Option("--fresh", help="start again instead of resuming what is there")]
IncludeForgotten = Annotated[
    bool, typer.Option("--include-forgotten", help="train also on what is forgotten but still in the source")
]


class Choose(StrEnum):
    RANDOM = "random"
    MEMORISED = "memorised"
    NEAR_COPIES = "near-copies"


Seed = Annotated[int | None, typer.Option(help="instead of that of params.yaml")]


@drill.command()
@guarded
def backdoor(
    *,
    found: Annotated[float, typer.Option(min=0, max=1, help="share of the poisoned samples that is found")] = 1.0,
    samples: Annotated[
        int | None, typer.Option(min=1, help="how many to poison; default: that of params.yaml, or 1%")
    ] = None,
    relabel: Annotated[
        bool | None, typer.Option(help="samples of other classes, relabelled, or the target class's own")
    ] = None,
    value: Annotated[int | None, typer.Option(min=0, max=255, help="grey of the trigger, 0 black to 255 white")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="pixels a side of the trigger")] = None,
    position: Annotated[str | None, typer.Option(help="random or a corner, as bottom-right")] = None,
    seed: Seed = None,
    name: Name = "backdoor",
    include_forgotten: IncludeForgotten = False,
    fresh: Fresh = False,
) -> None:
    """Plant a backdoor, measure it, forget the poisoned samples that are found, measure again."""
    from training.drills.choice import backdoor_drill

    workspace = project()
    chosen = backdoor_drill(
        workspace,
        found=found,
        poison={"samples": samples, "relabel": relabel},
        trigger={"value": value, "size": size, "position": position},
        seed=seed,
        name=name,
        command=typed(),
        include_forgotten=include_forgotten,
    )
    carry_out(workspace, chosen, fresh)


@drill.command()
@guarded
def forget(
    *,
    samples: Annotated[int | None, typer.Option(min=1, help="how many training samples to forget")] = None,
    choose: Annotated[
        Choose, typer.Option(help="which: random ones, what the models memorised most, or what has near copies")
    ] = Choose.RANDOM,
    class_name: Annotated[str | None, typer.Option("--class", help="forget all of a class instead")] = None,
    subject: Annotated[str | None, typer.Option(help="forget a subject instead")] = None,
    cheat: Annotated[
        bool,
        typer.Option("--cheat", help="also pass off models that did not forget, and show which defence notices"),
    ] = False,
    seed: Seed = None,
    name: Name = "forget",
    include_forgotten: IncludeForgotten = False,
    fresh: Fresh = False,
) -> None:
    """Monitor samples, forget them, and train from scratch what never had them.

    With --cheat it exits with 1 where models that did not forget go unnoticed by `sisa verify` or by every attack.
    """
    from training.drills.choice import Chosen, forget_drill

    if [samples, class_name, subject].count(None) != 2:
        raise typer.BadParameter("give one of --samples, --class and --subject")
    if samples is None and choose is not Choose.RANDOM:
        raise typer.BadParameter("--choose goes with --samples")
    workspace = project()
    result = carry_out(
        workspace,
        forget_drill(
            workspace,
            Chosen(samples, choose.value, class_name, subject),
            seed=seed,
            name=name,
            command=typed(),
            include_forgotten=include_forgotten,
            cheat=cheat,
        ),
        fresh,
    )
    if result.drill == "forget" and result.control is not None and not result.control.holds:
        raise typer.Exit(1)


def carry_out(workspace: Workspace, chosen: Drill, fresh: bool) -> DrillResult:
    """Run the drill, show its result, and bring it into the report."""
    from rich.console import Console

    from training.drills.drill import run_drill
    from training.drills.dvc import rebuild_report
    from training.drills.show import show

    result = run_drill(workspace, chosen, fresh=fresh)
    show(result, Console())
    print(workspace.short(workspace.drill_reports / f"{chosen.name}.json"))
    rebuild_report(workspace)
    return result


def typed() -> str:
    """What was typed, without ``--fresh``: what resumes a drill, and what repeats it elsewhere."""
    return shlex.join(["sisa", *(word for word in sys.argv[1:] if word != "--fresh")])
