"""`sisa forget`: requests to forget, from the first word to the last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import Actor, Json, count, guarded, print_json, project
from training.commands.requests import requests

if TYPE_CHECKING:
    from training.forgetting.add import Added, Outlook
    from training.forgetting.asking import Outcome

ADD_EXAMPLES = """Examples:
  sisa forget add 123 456 --reference TICKET-7
  sisa forget add cat/3.png --name ticket-8 --actor ada --approver bob
  sisa forget add --subject ann  all samples of a person
  sisa forget add 123 --dry-run  only say what it would do
  sisa forget add 123 --url https://classifier.example

Exit status: 0 when all of it is asked for and withdrawn; 1 when an id was
never a sample here (the others are asked for all the same) or a service has
not confirmed; 2 when the command is typed wrongly."""

RUN_EXAMPLES = """Examples:
  sisa forget run                retrain now what is open
  sisa forget run --window 7d    only if the oldest request has waited a week
  sisa forget run --window 7d --dry-run
                                 say whether that would do anything
  17 2 * * * cd /srv/sisa && .venv/bin/sisa forget run --window 7d
                                 in a crontab: every night

Exit status: 0 when everything is done or nothing is due yet; 1 when it
failed, and the next one completes it; 2 when the command is typed wrongly;
3 when another one is at work, or something is still open after the run."""

forget = typer.Typer(
    help="Ask for samples to be forgotten, and see how far it has come.", no_args_is_help=True, rich_markup_mode=None
)
forget.add_typer(requests)


@forget.command(epilog=ADD_EXAMPLES)
@guarded
def add(
    ids: Annotated[
        list[str] | None, typer.Argument(help="sample ids, or subject:NAME, as a forget list has them")
    ] = None,
    *,
    subject: Annotated[list[str] | None, typer.Option(help="all samples of a person; may be given again")] = None,
    name: Annotated[str | None, typer.Option(help="of the request; default: the time")] = None,
    reference: Annotated[str | None, typer.Option(help="the asker's own, as a ticket's number")] = None,
    approver: Annotated[str | None, typer.Option(help="who confirmed it, where two must")] = None,
    actor: Actor = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="take unknown ids as well: pictures removed before anybody listed them")
    ] = False,
    url: Annotated[
        list[str] | None, typer.Option(help="a service elsewhere that is told as well; may be given again")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what it would do")] = False,
    json: Json = False,
) -> None:
    """Forget samples: the models that saw them stop answering at once, and never answer again.

    The request is kept from git (forget/private/). Its name, reference and actor go into the ledger, which git has.
    `dvc repro` then trains the shards again without the samples.
    """
    from training.errors import RequestError
    from training.forgetting.add import add, look_ahead
    from training.forgetting.known import look_up
    from training.forgetting.services import addresses, withdraw_everywhere

    workspace = project()
    named = [*(ids or ()), *(f"subject:{each}" for each in subject or ())]
    if not named:
        raise typer.BadParameter("nothing to forget: give ids, or --subject NAME")
    addresses(url or ())  # one that cannot be used is refused before anything is asked
    known = look_up(workspace)
    outlook = look_ahead(known, named)
    if dry_run:
        unknown = [each for each in named if not gone and not known.is_sample(each)]
        if json:
            print_json({**outlook.model_dump(mode="json"), "unknown": unknown})
        elif unknown != named:
            print("\n".join(foreseen(outlook)))
        if unknown:
            raise RequestError(f"never a sample here, so it would not be asked for: {', '.join(unknown)}")
        return
    if not json and (gone or any(map(known.is_sample, named))):
        already = [each for each in named if known.memory.suppresses(each)]
        print("\n".join([*(f"{each}: asked for before" for each in already), *foreseen(outlook)]))
    done = add(workspace, named, name=name, by=actor, reference=reference, approver=approver, gone=gone, known=known)
    if not json:
        print("\n".join(said(done)), flush=True)  # before anything else can fail: it stands
    outcomes = withdraw_everywhere(workspace, url or ())
    if json:
        print_json({**done.model_dump(mode="json"), "services": [each.model_dump(mode="json") for each in outcomes]})
    else:
        print("".join(f"{confirmed(each)}\n" for each in outcomes if each.problem is None), end="")
    if any(each.problem is not None for each in outcomes):
        raise RequestError("withdrawn here, but not at every service: see above; run the same again when it is there")
    if done.unknown:
        names = "".join(
            f"\n  {name!r}{'; ' if name in done.near else ''}{done.near.get(name, '')}" for name in done.unknown
        )
        raise RequestError(
            f"never a sample here, so not asked for:{names}\nCorrect them; or, for a picture that was removed before "
            "anybody asked, add --gone"
        )


def foreseen(outlook: Outlook) -> list[str]:
    """What a request would do, in sentences."""
    if not outlook.shards:
        return ["no model that answers saw any of it, so none has to be withdrawn"]
    accuracy = "" if outlook.accuracy is None else f", accuracy {outlook.accuracy:.3f} on the test set"
    lines = [
        f"saw it: shard{'s' if len(outlook.shards) > 1 else ''} {', '.join(map(str, outlook.shards))}; without them "
        f"{outlook.answered} of {outlook.of} shards answer{accuracy}"
    ]
    if not outlook.quorum_holds:
        lines.append(
            f"fewer than the quorum of {outlook.needed}: shards answer from the deepest slice that never saw it, where "
            "there is one; predictions are refused (503) if that is not enough"
        )
    return lines


def confirmed(outcome: Outcome) -> str:
    return f"withdrawn at {outcome.service} as well, which has confirmed it"


def said(done: Added) -> list[str]:
    """What was done, in sentences."""
    if done.request is None:
        return ["nothing was asked for"]
    lines = [f"request {done.request}: {count(done.count, 'sample')}, kept in forget/private/{done.request}.json"]
    if done.withdrawn:
        published = "nothing is published" if done.generation is None else f"generation {done.generation} is published"
        lines.append(f"withdrawn: {count(len(done.withdrawn), 'model')}; {published} without what saw it")
        if done.earlier_slice:
            lines.append(f"answering from an earlier slice meanwhile: {', '.join(map(str, done.earlier_slice))}")
        lines.append("`dvc repro` trains again what is pending")
    return lines


@forget.command(epilog="Example: sisa forget vanished --request lost-disk")
@guarded
def vanished(
    *,
    request: Annotated[str, typer.Option(help="the name of the request", show_default=False)],
    reference: Annotated[str | None, typer.Option(help="the asker's own, as a ticket's number")] = None,
    approver: Annotated[str | None, typer.Option(help="who confirmed it, where two must")] = None,
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Ask for what disappeared from the source without being listed, after `dvc repro` has stopped at it."""
    from training.forgetting.vanished import request_vanished

    done = request_vanished(project(), request, by=actor, reference=reference, approver=approver)
    print_json(done) if json else print("\n".join(said(done)))


@forget.command(epilog=RUN_EXAMPLES)
@guarded
def run(
    *,
    window: Annotated[
        str, typer.Option(metavar="TIME", help="how old the oldest open request must be, as 12h or 7d; 0: run at once")
    ] = "0",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say whether a run is due; write nothing")] = False,
) -> None:
    """Retrain and publish what is asked for, once its window has closed.

    First it withdraws what is newly asked for: from then on no model that saw
    it answers. When the oldest open request is as old as the window, it runs
    `dvc repro` and publishes. It says for how long shards have been pending,
    and what accuracy the others have meanwhile.
    """
    from datetime import UTC, datetime, timedelta

    from training.commands.status import OPEN, show
    from training.errors import BusyError
    from training.forgetting.run import run as run_due
    from training.forgetting.window import parse_window

    try:
        length = timedelta(0) if window == "0" else parse_window(window)
    except ValueError as error:
        raise typer.BadParameter(f"--window: {error}") from error
    try:
        outcome = run_due(project(), length, dry_run=dry_run)
    except BusyError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(OPEN) from None
    if dry_run:
        print(f"would run `dvc repro`: {'yes' if outcome.due else 'no'}")
    elif outcome.due:
        show(outcome.status, datetime.now(UTC))
        if not outcome.status.as_asked:
            raise typer.Exit(OPEN)
