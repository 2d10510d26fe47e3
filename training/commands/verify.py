"""`sisa verify`: whether what is served is what a training without the forgotten samples comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import Json, guarded, print_json, project

if TYPE_CHECKING:
    from training.erasure.findings import Verification

INCOMPLETE = 3

EXAMPLES = """Examples:
  sisa verify --quick                     every digest, key and link: seconds
  sisa verify --sample 123                retrain the shard that it lay in
  sisa verify --shard 0 --shard 3         retrain these
  sisa verify --random 2                  retrain two shards, drawn now
  sisa verify --url http://localhost:3000 ask a service, too; retrain all

Exit status: 0 when every check held; 1 when one failed; 2 when the command
is typed wrongly; 3 when something could not be checked here."""

verify = typer.Typer()


@verify.command("verify", epilog=EXAMPLES)
@guarded
def show_verify(
    *,
    shard: Annotated[list[int] | None, typer.Option(help="a shard to retrain; may be given more than once")] = None,
    sample: Annotated[
        list[str] | None, typer.Option(help="a forgotten sample, or subject:NAME, whose shards to retrain")
    ] = None,
    at_random: Annotated[int, typer.Option("--random", min=0, help="so many more shards to retrain, drawn now")] = 0,
    url: Annotated[str | None, typer.Option(help="address of a service that is asked what it serves")] = None,
    every: Annotated[bool, typer.Option("--all", help="retrain all shards, as where none is named")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="retrain nothing")] = False,
    no_record: Annotated[
        bool, typer.Option("--no-record", help="leave the ledger as it is, as an auditor does in a clone")
    ] = False,
    as_json: Json = False,
) -> None:
    """Retrain shards from what is retained, and compare bit for bit with what is published.

    Before that, all digests, keys, links of the ledger, and whether anything of a
    forgotten sample is in what is trained on. What was found is entered into the
    ledger. Without --shard, --sample or --random, all shards are retrained.
    """
    from training.erasure.verify import verify
    from training.errors import RequestError
    from training.publish.opening import published_now

    if quick + every + bool(shard or sample or at_random) > 1:
        raise RequestError("give one of --quick, --all, or --shard, --sample and --random, which go together")
    workspace = project()
    found = verify(
        workspace,
        shards=shard or (),
        samples=sample or (),
        at_random=at_random,
        url=url,
        quick=quick,
        record=not no_record,
    )
    if as_json:
        print_json({**found.model_dump(mode="json"), "outcome": found.outcome})
    else:
        show(found)
        manifest = published_now(workspace)
        if at_random and found.passed and manifest is not None:
            print(odds(len(manifest.voters), at_random))
    if found.outcome != "held":
        raise typer.Exit(1 if found.outcome == "failed" else INCOMPLETE)


def show(found: Verification) -> None:
    """A row for each check, and the verdict in a sentence."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from training.stages.run import shortened

    colours = {"held": "green", "failed": "bold red", "not checked": "yellow"}
    table = Table(Column("check", no_wrap=True), Column("outcome", no_wrap=True), Column("found", overflow="fold"))
    for check in found.checks:
        table.add_row(check.name, Text(check.outcome, colours[check.outcome]), Text(shortened(check.found)))
    Console().print(table)
    print(verdict(found))


def verdict(found: Verification) -> str:
    counts = {outcome: sum(check.outcome == outcome for check in found.checks) for outcome in ("failed", "not checked")}
    if found.outcome == "failed":
        return f"NOT VERIFIED: {counts['failed']} of {len(found.checks)} checks failed."
    if found.outcome == "not checked":
        return f"Not verified completely: {counts['not checked']} of {len(found.checks)} checks could not be made here."
    if not found.retrained:
        return (
            f"Generation {found.generation}: every check held. Nothing was retrained, so a model whose key was forged "
            "would not have been noticed; `sisa verify` without --quick does."
        )
    drawn = ", ".join(str(each.shard) for each in found.retrained)
    shards = f"shard {drawn} equals" if len(found.retrained) == 1 else f"shards {drawn} equal"
    how = "bit for bit" if found.comparison == "bits" else "by their answers, for they were trained elsewhere"
    return f"Generation {found.generation} is verified: retrained, {shards} what is published, {how}."


def odds(shards: int, drawn: int) -> str:
    """What a draw is worth, in a sentence."""
    from training.erasure.audit import chance_of_noticing

    chance = chance_of_noticing(shards, 1, drawn)
    return (
        f"Had one of the {shards} shards been false, drawing {drawn} would have met it with probability {chance:.2f}."
    )
