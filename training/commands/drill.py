"""Drills: deletions rehearsed, from before to after."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import guarded, project

if TYPE_CHECKING:
    from training.drills.drill import Drill
    from training.workspace import Workspace

drill = typer.Typer(
    help="Rehearse a deletion, from before to after, in workspaces of its own (.drills/).", no_args_is_help=True
)

Name = Annotated[str, typer.Option(help="names the workspaces and the result, reports/drills/NAME.json")]
Fresh = Annotated[bool, typer.Option("--fresh", help="start again instead of resuming what is there")]
IncludeForgotten = Annotated[
    bool, typer.Option("--include-forgotten", help="train also on what is forgotten but still in the source")
]
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
    samples: Annotated[int, typer.Option(min=1, help="random training samples to forget")],
    seed: Seed = None,
    name: Name = "forget",
    include_forgotten: IncludeForgotten = False,
    fresh: Fresh = False,
) -> None:
    """Monitor random samples, forget them, and train from scratch what never had them."""
    from training.drills.choice import forget_drill

    workspace = project()
    chosen = forget_drill(
        workspace, samples=samples, seed=seed, name=name, command=typed(), include_forgotten=include_forgotten
    )
    carry_out(workspace, chosen, fresh)


def carry_out(workspace: Workspace, chosen: Drill, fresh: bool) -> None:
    """Run the drill, show its result, and bring it into the report."""
    from rich.console import Console

    from training.drills.drill import run_drill
    from training.drills.dvc import rebuild_report
    from training.drills.show import show

    show(run_drill(workspace, chosen, fresh=fresh), Console())
    print(workspace.short(workspace.drill_reports / f"{chosen.name}.json"))
    rebuild_report(workspace)


def typed() -> str:
    """What was typed, without ``--fresh``: what resumes a drill, and what repeats it elsewhere."""
    return shlex.join(["sisa", *(word for word in sys.argv[1:] if word != "--fresh")])
