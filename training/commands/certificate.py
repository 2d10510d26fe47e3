"""`sisa certificate`: what was done for requests to forget, signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.command import guarded, project

if TYPE_CHECKING:
    from training.workspace import Workspace

certificate = typer.Typer()


@certificate.callback(
    invoke_without_command=True, epilog="Examples: sisa certificate --request ticket-7 | sisa certificate check FILE"
)
@guarded
def make(
    context: typer.Context,
    *,
    request: Annotated[
        list[str] | None, typer.Option(help="a request or list; default: all that are done and not certified yet")
    ] = None,
) -> None:
    """Sign what was done for requests to forget: dates, keys before and after, verification, purge, limits.

    `sisa certificate check FILE` checks such a certificate.
    """
    if context.invoked_subcommand is not None:
        return
    from training.erasure.certificate import make_certificate

    workspace = project()
    made = make_certificate(workspace, request or ())
    print(made.summary)
    for path in (made.files.envelope, made.files.html, made.files.markdown):
        print(workspace.short(path))
    for path in made.files.for_requesters:
        print(f"{workspace.short(path)}: to be sent with it; the next `sisa purge` deletes it here")


def home() -> Workspace:
    """The workspace, or what else will do."""
    from training.errors import CertificateError, SisaError

    try:
        return project()
    except SisaError as error:
        raise CertificateError(f"{error}; elsewhere give the public key: --public-key FILE") from error


@certificate.command(epilog="Exit status: 0 when all of it holds; 1 when something does not.")
@guarded
def check(
    files: Annotated[list[Path], typer.Argument(help="certificate.json, one or more", show_default=False)],
    *,
    public_key: Annotated[
        list[Path] | None, typer.Option(help="a PEM file; default: those in the workspace's models/keys/")
    ] = None,
    ids: Annotated[Path | None, typer.Option(help="what the requester was sent: is it of these samples?")] = None,
) -> None:
    """Whether a certificate was signed by a known key, and says what ledger, findings and files say.

    With --public-key no workspace is needed: the signature alone is checked.
    """
    from training.erasure.certificate import (
        check_ids,
        read_certificate,
        read_for_requester,
        refuse_expired,
        verify_signature,
    )
    from training.erasure.contents import check_contents
    from training.erasure.keys import read_public, trusted_keys

    if ids is not None and len(files) > 1:
        raise typer.BadParameter("--ids goes with one certificate")
    workspace = None if public_key else home()
    keys = trusted_keys(workspace) if workspace else {key.keyid: key for key in map(read_public, public_key or ())}
    for file in files:
        if len(files) > 1:
            print(f"{file}:")
        envelope = read_certificate(file)
        statement, key_id = verify_signature(envelope, keys)
        print(f"signed with {key_id}")
        if workspace:
            for sentence in check_contents(workspace, statement, envelope.payload):
                print(sentence)
        if ids is not None:
            sent = read_for_requester(ids)
            check_ids(statement, sent)
            what = "the sample" if len(sent.samples) == 1 else f"the {len(sent.samples)} samples"
            print(f"it is of {what} of {sent.request} in {ids}")
        refuse_expired(statement)
        print(statement.predicate.summary)
