"""`sisa prove`: that a sample is, or is not, among what the published models were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.command import guarded, project

prove = typer.Typer(
    no_args_is_help=True,
    help="Prove what published models were trained on, by the ledger's commitments; or check such a proof.",
)

Id = Annotated[str, typer.Argument(help="the sample's id", show_default=False)]
Picture = Annotated[Path | None, typer.Option(help="the picture itself: its pixels are proved as well")]
Out = Annotated[Path | None, typer.Option(help="where to write the proof; default: standard output")]


@prove.command(epilog="Example: sisa prove included 123 --out before.json")
@guarded
def included(sample: Id, *, out: Out = None) -> None:
    """That a published model was trained on a sample: keep the proof until the deletion."""
    from training.erasure.prove import prove

    write(prove(project(), "included", sample).to_bytes(), out)


@prove.command(epilog="Example: sisa prove excluded 123 --picture copy.png --out after.json")
@guarded
def excluded(sample: Id, *, picture: Picture = None, out: Out = None) -> None:
    """That no published model was trained on a sample, nor on its picture under another id."""
    from training.erasure.prove import prove

    write(prove(project(), "excluded", sample, picture).to_bytes(), out)


@prove.command(epilog="Exit status: 0 when it proves what it says; 1 when it does not.")
@guarded
def check(
    proof: Annotated[Path, typer.Argument(help="a proof", show_default=False)],
    *,
    ledger: Annotated[Path | None, typer.Option(help="the ledger's export; default: the workspace's")] = None,
) -> None:
    """Whether a proof holds by the ledger. It needs no secret, no samples and no models."""
    from training.erasure.prove import check_proof, read_proof

    found = read_proof(proof)
    entry = check_proof(found, ledger or project().ledger_export)
    of_what = f"{found.sample!r}{' and its pixels' if found.pixels is not None else ''}"
    when = f"generation {found.generation}, published {entry.time}"
    if found.claim == "included":
        print(f"proved: shard {found.models[0].shard} of {when}, was trained on {of_what}")
    else:
        print(f"proved: no model of {when}, was trained on {of_what}")


def write(content: bytes, out: Path | None) -> None:
    from training.files import write_atomic

    if out is None:
        print(content.decode(), end="")
    else:
        write_atomic(out, content)
        print(out)
