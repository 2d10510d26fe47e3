"""Private requests, ``forget/private/NAME.json``: what `sisa forget add` writes and git is never told.

They lie beside the forget lists, in the folder that DVC compares, so that a request reruns what it must. All that is
asked for is the union of lists and requests.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.forget_list import Entry, read_forget_lists
from training.errors import ForgetListError, RequestError
from training.files import json_bytes, write_atomic
from training.workspace import Workspace

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Request(BaseModel):
    """``samples``: ids, or ``subject:NAME``. ``gone``: those that were gone before anybody asked, taken as they are.

    ``time``: UTC, ISO 8601. ``reference``: the asker's own, as a ticket's number. ``approver``: who confirmed it, where
    two must.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    time: str
    actor: str
    reference: str | None = None
    approver: str | None = None
    samples: tuple[str, ...]
    gone: tuple[str, ...] = ()


def read_asked(workspace: Workspace) -> list[Entry]:
    """Every entry of every list and every request. Raises ForgetListError naming all that cannot be read."""
    entries: list[Entry] = []
    problems = []
    reads: tuple[Callable[[], list[Entry]], ...] = (
        lambda: read_forget_lists(workspace.forget_folder),
        lambda: entries_of(workspace),
    )
    for read in reads:
        try:
            entries += read()
        except ForgetListError as error:
            problems.append(str(error))
    if problems:
        raise ForgetListError("\n".join(problems))
    return entries


def entries_of(workspace: Workspace) -> list[Entry]:
    """The entries of the private requests, as those of lists; raises ForgetListError as ``read_requests`` does."""
    return [
        Entry(request_file(workspace, request.name), number, sample_id)
        for request in read_requests(workspace)
        for number, sample_id in enumerate(request.samples, start=1)
    ]


def request_file(workspace: Workspace, name: str) -> Path:
    return workspace.private_folder / f"{name}.json"


def read_requests(workspace: Workspace) -> list[Request]:
    """In order of name. Raises ForgetListError naming what cannot be read, and what would not be."""
    requests, problems = [], []
    folder = workspace.private_folder
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ForgetListError(f"{folder} cannot be read ({error.strerror}); allow reading it") from error
    for path in paths:
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            continue  # of a killed command: nothing was asked
        try:
            request = Request.model_validate_json(path.read_bytes())
            if path != request_file(workspace, request.name):
                raise ValueError(f"it is the request {request.name!r}, whose file is {request.name}.json")
            requests.append(request)
        except (OSError, ValueError, ValidationError) as error:
            problems.append(f"{path} is not a request that can be read ({error}); restore it, or remove it")
    if problems:
        raise ForgetListError("\n".join(problems))
    return requests


def readable_requests(workspace: Workspace) -> list[Request]:
    """The requests that can be read: what is wrong with another one keeps none of these from being carried out."""
    requests = []
    for path in sorted(workspace.private_folder.glob("[!.]*.json")):
        try:
            requests.append(Request.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            logger.warning("%s is not a request that can be read (%s)", path, error)
    return requests


def check_name(name: str) -> None:
    """Raise RequestError unless a request can be called so."""
    if not NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot name a request: expected 1 to 64 letters, digits, '.', '_' and '-', a letter or digit "
            "first"
        )


def write_request(workspace: Workspace, request: Request) -> None:
    """Write a request, on the disk when this returns: from then on it will be carried out, whatever happens."""
    check_name(request.name)
    write_atomic(request_file(workspace, request.name), json_bytes(request.model_dump(mode="json")), mode=0o600)
