"""Around the pipeline: what is checked before it, published and shown after it."""

from __future__ import annotations

import typer

from training.commands.command import Json, guarded, print_json, project

pipeline = typer.Typer()


@pipeline.command(epilog="Exit status: 0 when all is well; 1 when something is wrong. Example: sisa check --json")
@guarded
def check(*, as_json: Json = False) -> None:
    """Name what is wrong with parameters, source, forget lists, weights, device and memory, all at once.

    Opens no picture and writes nothing.
    """
    from training.check import check, find_problems

    if not as_json:
        check(project())
        print("parameters, source, lists, weights and memory are as they should be")
        return
    problems = find_problems(project())
    print_json({"problems": problems})
    if problems:
        raise typer.Exit(1)


@pipeline.command(
    epilog="Exit status: 0, also when nothing changed; 1 when it cannot be published. Example: sisa publish"
)
@guarded
def publish(*, as_json: Json = False) -> None:
    """Publish the release candidate that `dvc repro` or `dvc pull` left, unless it is published already."""
    from training.publish.publish import publish

    workspace = project()
    if not workspace.release_file.is_file():
        if as_json:
            print_json({"generation": None})
            return
        print(f"{workspace.short(workspace.release_file)}: there is no release candidate, so nothing to publish")
        return
    manifest = publish(workspace)
    if as_json:
        print_json({"generation": None if manifest is None else manifest.generation})
    elif manifest is not None:
        print(f"{workspace.short(workspace.manifest_file)}: generation {manifest.generation}")


@pipeline.command()
@guarded
def summary() -> None:
    """Print the results of the last run."""
    from training.report.summary import summary

    summary(project())
