"""`sisa keys`: the key that certificates are signed with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from training.commands.command import guarded, project

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from training.workspace import Workspace

keys = typer.Typer(
    help="The key that certificates are signed with, Ed25519, kept outside the repository: SISA_SIGNING_KEY, or "
    "~/.config/sisa/signing-key.pem; SISA_SIGNING_PASSPHRASE locks it.",
    no_args_is_help=True,
)


@keys.command()
@guarded
def new() -> None:
    """Make a key. Its public half goes to models/keys/, for git."""
    from training.erasure.keys import make_key

    workspace = project()
    announce(workspace, make_key(workspace))


@keys.command()
@guarded
def show() -> None:
    """Print id and public key, as whoever checks certificates needs them."""
    from training.erasure.keys import open_signer

    show_key(open_signer(project()).public_key)


@keys.command()
@guarded
def rotate() -> None:
    """Make another key; the old one is put aside, and what it signed still verifies."""
    from training.erasure.keys import rotate_key

    workspace = project()
    announce(workspace, rotate_key(workspace))


def announce(workspace: Workspace, public: SSlibKey) -> None:
    """Of a key that was made: where it is, and what is to be done with it."""
    from training.erasure.keys import key_file

    print(f"private key: {key_file(workspace)}. Back it up; whoever has it can sign.")
    show_key(public)
    print(f"To be committed: {workspace.short(workspace.erasure.keys)}/{public.keyid}.pem")


def show_key(public: SSlibKey) -> None:
    from training.erasure.keys import public_pem

    print(f"key id: {public.keyid}")
    print(public_pem(public), end="")
