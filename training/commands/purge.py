"""`sisa purge`: what is left of earlier generations and of forgotten samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import Json, count, guarded, print_json, project

if TYPE_CHECKING:
    from training.erasure.purge import Purge

EXAMPLES = """Examples:
  sisa purge --dry-run       what lies where; nothing is changed
  sisa purge                 remove it, scan, and enter it into the ledger
  sisa purge --source        delete forgotten pictures of an image folder, too

Exit status: 0 when nothing is left; 1 when something is, or it was refused;
2 when the command is typed wrongly."""

purge = typer.Typer()


@purge.command("purge", epilog=EXAMPLES)
@guarded
def show_purge(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="look, and change nothing")] = False,
    source: Annotated[
        bool, typer.Option("--source", help="also delete forgotten pictures of an image folder, for ever")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --source: do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Remove earlier models, checkpoints and shard files from every place in reach.

    DVC's cache, run-cache, remotes, experiments, drills, bentos, images. Then every
    file within reach is looked into, archives too, for what is forgotten or was
    published before. What cannot be reached is listed.
    """
    from training.erasure.purge import purge

    if source and not dry_run and not yes:
        typer.confirm("Delete forgotten pictures from the image folder? They cannot be brought back.", abort=True)
    found = purge(project(), dry_run=dry_run, source=source)
    if as_json:
        print_json({**found.model_dump(mode="json"), "complete": found.complete})
    else:
        show(found)
    if found.left or found.unread:
        raise typer.Exit(1)


def show(found: Purge) -> None:
    """The source first, then a row for each place that had something, then what is out of reach."""
    from rich.console import Console
    from rich.table import Table

    from training.stages.run import shortened

    if found.source:
        print(
            f"The source still holds {count(found.source, 'forgotten picture')}: the models forgot them, the source "
            "did not (--source deletes those of an image folder)."
        )
    table = Table("place", "found", "left")
    for place in found.places:
        if place.found:
            table.add_row(place.place, f"{place.found:,}", f"{place.left:,}")
    if table.row_count:
        Console().print(table)
    for trace in found.traces:
        print(f"{shortened(trace.path)}: {trace.what}")
    for each in found.unread:
        print(f"Could not be looked into: {shortened(each)}")
    print("Out of reach, and not looked at:")
    for each in found.unreachable:
        print(f"  {each}")
    print(verdict(found))


def verdict(found: Purge) -> str:
    scanned = f"{found.scanned:,} files were looked into"
    if found.dry_run:
        return f"Nothing was changed. {found.left:,} would have to go; {scanned}."
    if found.left:
        return f"NOT PURGED: {found.left:,} are left; {scanned}."
    if found.unread:
        return f"NOT PURGED COMPLETELY: {len(found.unread)} files could not be looked into; repair or remove them."
    return f"Purged: {found.removed:,} removed, nothing is left within reach; {scanned}."
