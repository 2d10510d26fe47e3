"""The command ``sisa``: what is not a stage of the pipeline. A thin layer over functions of a workspace.

Each command imports what it needs when it runs: `sisa --help` is not to wait for any of it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

if TYPE_CHECKING:
    from training.drills.drill import Drill
    from training.workspace import Workspace

P = ParamSpec("P")

app = typer.Typer(help="Check, publish, and rehearse deletions.", no_args_is_help=True, add_completion=False)
drill = typer.Typer(
    help="Rehearse a deletion, from before to after, in workspaces of its own (.drills/).", no_args_is_help=True
)
app.add_typer(drill, name="drill")

Name = Annotated[str, typer.Option(help="names the workspaces and the result, reports/drills/NAME.json")]
Fresh = Annotated[bool, typer.Option("--fresh", help="start again instead of resuming what is there")]
IncludeForgotten = Annotated[
    bool, typer.Option("--include-forgotten", help="train also on what is forgotten but still in the source")
]
Seed = Annotated[int | None, typer.Option(help="instead of that of params.yaml")]


def guarded(command: Callable[P, object]) -> Callable[P, None]:
    """A command whose logs are printed and whose errors become messages, as those of the stages."""

    @wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        from training.stages.run import guard

        guard(partial(command, *args, **kwargs))

    return call


@app.command()
@guarded
def check() -> None:
    """Name everything that would stop a run: parameters, source, forget lists, initial weights, device.

    Writes nothing. Exit status 0 when all is well, 1 when something is wrong.
    """
    from training.check import check

    check(project())
    print("parameters, source, lists and weights are as they should be")


@app.command()
@guarded
def publish() -> None:
    """Publish the release candidate that `dvc repro` or `dvc pull` left, unless it is published already."""
    from training.publish.publish import publish

    workspace = project()
    if not workspace.release_file.is_file():
        print(f"{workspace.short(workspace.release_file)}: there is no release candidate, so nothing to publish")
        return
    manifest = publish(workspace)
    if manifest is not None:
        print(f"{workspace.short(workspace.manifest_file)}: generation {manifest.generation}")


@app.command()
@guarded
def summary() -> None:
    """Print the results of the last run."""
    from training.report.summary import summary

    summary(project())


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


def project() -> Workspace:
    """The workspace that the current directory is in. Raises SisaError when it is in none."""
    from training.errors import SisaError
    from training.stages.run import here
    from training.workspace import Workspace

    start = here().root
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return Workspace(folder)
    raise SisaError(f"{start} is not in a workspace: neither it nor a folder above it holds dvc.yaml and params.yaml")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
