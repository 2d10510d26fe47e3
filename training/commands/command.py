"""What every command has in common: the workspace it works on, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from training.workspace import Workspace

P = ParamSpec("P")

Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]
Actor = Annotated[str | None, typer.Option(help="who does this, for the ledger; default: the system's user")]


def guarded(command: Callable[P, object]) -> Callable[P, None]:
    """A command whose logs are printed and whose errors become messages, as those of the stages."""

    @wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        from training.stages.run import guard

        guard(partial(command, *args, **kwargs))

    return call


def count(number: int, what: str) -> str:
    """ "1 sample", "2 samples"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def print_json(found: BaseModel | Mapping[str, object]) -> None:
    """One JSON object, as it is documented."""
    import json

    from pydantic import BaseModel

    document = found.model_dump(mode="json") if isinstance(found, BaseModel) else found
    print(json.dumps(document, indent=2, ensure_ascii=False))


def project() -> Workspace:
    """The workspace that the current directory is in. Raises SisaError when it is in none."""
    from training.errors import SisaError
    from training.stages.run import here
    from training.workspace import Workspace

    start = here().root
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return Workspace(folder)
    raise SisaError(f"{start} is not in a workspace: neither it nor a folder above it holds dvc.yaml and params.yaml")
