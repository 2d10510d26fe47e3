"""The command ``sisa``: which commands there are."""

from __future__ import annotations

import typer

from training.commands.backbone import backbone
from training.commands.certificate import certificate
from training.commands.drill import drill
from training.commands.erase import erase
from training.commands.forget import forget
from training.commands.keys import keys
from training.commands.pipeline import pipeline
from training.commands.plan import plan
from training.commands.prove import prove
from training.commands.purge import purge
from training.commands.status import status
from training.commands.verify import verify
from training.commands.where import where

app = typer.Typer(
    help="Forget samples, plan, check, publish, and rehearse deletions.", no_args_is_help=True, add_completion=False
)
app.add_typer(forget, name="forget")
app.add_typer(where)
app.add_typer(plan)
app.add_typer(status)
app.add_typer(erase)
app.add_typer(verify)
app.add_typer(prove, name="prove")
app.add_typer(purge)
app.add_typer(keys, name="keys")
app.add_typer(certificate, name="certificate")
app.add_typer(pipeline)  # without a name: its commands are sisa's own
app.add_typer(drill, name="drill")
app.add_typer(backbone, name="backbone")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
