"""`sisa erase`: a request from its first word to its certificate."""

from __future__ import annotations

from typing import Annotated

import typer

from training.commands.command import guarded, project

EXAMPLES = """Examples:
  sisa erase 123 456 --request ticket-7 --commit
  sisa erase --request ticket-7 --commit     resume it, wherever it stopped
  sisa erase --request forget/list.txt       of a forget list that git has

Exit status: 0 when it is certified; 1 when a step could not be done, which
the message names, with what to do before the same command; 2 when the
command is typed wrongly."""

erase = typer.Typer()


@erase.command("erase", epilog=EXAMPLES)
@guarded
def carry_out(
    ids: Annotated[list[str] | None, typer.Argument(help="sample ids, or subject:NAME; none to resume")] = None,
    *,
    request: Annotated[str, typer.Option(help="its name, which tells nobody whose pictures they are")],
    reference: Annotated[str | None, typer.Option(help="the asker's own, as a ticket's number")] = None,
    every_shard: Annotated[
        bool, typer.Option("--every-shard", help="retrain all shards to verify, not only those it touched")
    ] = False,
    source: Annotated[
        bool, typer.Option("--source", help="also delete forgotten pictures of an image folder, for ever")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --source: do not ask")] = False,
    commit: Annotated[bool, typer.Option("--commit", help="commit dvc.lock and the ledger, nothing else")] = False,
) -> None:
    """Ask, withdraw, retrain, commit, verify, purge, certify: in one command.

    It stops at the first step that fails, and resumes there when it is typed again.
    Without --commit it stops where something is to be committed, and says how.
    """
    from training.erasure.erase import erase

    if source and not yes:
        typer.confirm("Delete forgotten pictures from the image folder? They cannot be brought back.", abort=True)
    workspace = project()
    done = erase(
        workspace,
        request,
        ids or (),
        reference=reference,
        every_shard=every_shard,
        source=source,
        commit=commit,
    )
    print(done.summary)
    print("To be sent to the requester, in a safe way, with the public key (`sisa keys show`):")
    for path in done.send:
        print(f"  {workspace.short(path)}")
