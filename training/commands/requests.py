"""`sisa forget` of what was asked before: see it, take it back, carry it to another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.command import Actor, Json, count, guarded, print_json, project

requests = typer.Typer()

Ids = Annotated[list[str], typer.Argument(help="sample ids, as a forget list has them", show_default=False)]
Reason = Annotated[str, typer.Option(help="why; it goes into the ledger", show_default=False)]


@requests.command(name="list", epilog="Example: sisa forget list --json")
@guarded
def list_(*, json: Json = False) -> None:
    """What was asked, by whom, and how far it has come; no ids."""
    from rich.console import Console
    from rich.table import Column, Table

    from training.forgetting.requests import list_requests

    items = list_requests(project())
    if json:
        print_json({"requests": [item.model_dump() for item in items]})
        return
    table = Table(Column("request", no_wrap=True), "since", "samples", "step", "actor", "reference")
    for item in items:
        table.add_row(item.request, item.since[:10], str(item.samples), item.step, item.actor, item.reference or "")
    Console().print(table) if items else print("nothing was ever asked for here")


@requests.command(epilog="Example: sisa forget show 20261126-101500-9f3a")
@guarded
def show(name: str, *, json: Json = False) -> None:
    """One request of `sisa forget add`, with its ids."""
    from training.forgetting.requests import show_request

    request = show_request(project(), name)
    if json:
        print_json(request)
        return
    for label in ("name", "time", "actor", "reference", "approver"):
        value = getattr(request, label)
        if value is not None:
            print(f"{label}: {value}")
    for sample_id in request.samples:
        print(f"  {sample_id}{' (already gone when asked)' if sample_id in request.gone else ''}")


@requests.command(epilog='Example: sisa forget cancel 20261126-101500-9f3a --reason "asked by mistake"')
@guarded
def cancel(name: str, *, reason: Reason, actor: Actor = None, json: Json = False) -> None:
    """Take back a request that no training has carried out yet; what nobody else asks for is trained on again."""
    from training.forgetting.requests import cancel

    cancel(project(), name, reason, actor)
    print_json({"cancelled": name}) if json else print(
        f"{name} is taken back; `dvc repro` lets its shards answer again"
    )


@requests.command(epilog='Example: sisa forget reinstate 123 --reason "consent given again, TICKET-9"')
@guarded
def reinstate(ids: Ids, *, reason: Reason, actor: Actor = None, json: Json = False) -> None:
    """Let forgotten samples be trained on again: the only way back."""
    from training.forgetting.reinstate import reinstate

    back = reinstate(project(), ids, reason, actor)
    if json:
        print_json({"reinstated": back})
    else:
        print(f"{count(back, 'sample')} may be trained on again; `dvc repro` does, if in the source")


@requests.command(epilog="Example: sisa forget export /media/backup/sisa-memory.tar")
@guarded
def export(file: Path) -> None:
    """Write what this workspace remembers of forgotten samples to a file: the backup, and for another machine."""
    from training.forgetting.carrying import export_memory

    files = export_memory(project(), file)
    print(f"{file}: {count(files, 'file')}. It is as private as the requests in it: keep it where only you can read it")


@requests.command(name="import", epilog="Example: sisa forget import /media/backup/sisa-memory.tar")
@guarded
def import_(file: Path) -> None:
    """Bring in what `sisa forget export` wrote, on a clone or after a loss; nothing here is shortened."""
    from training.forgetting.carrying import import_memory

    fresh = import_memory(project(), file)
    print(f"{count(fresh, 'file')} new here" if fresh else "everything was here already")
