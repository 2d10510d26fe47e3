"""`sisa forget vanished`: what disappeared from the source without being asked for becomes a request."""

from __future__ import annotations

from training.data.last_partition import vanished_ids
from training.errors import RequestError
from training.forgetting.add import Added, add
from training.workspace import Workspace


def request_vanished(
    workspace: Workspace, name: str, *, by: str | None = None, reference: str | None = None, approver: str | None = None
) -> Added:
    """Ask for every sample to be forgotten that was trained on, is no longer in the source, and is on no list.

    Raises RequestError when there is none, and what ``open_source`` raises.
    """
    ids = vanished_ids(workspace)
    if not ids:
        raise RequestError("nothing vanished: every sample that is trained on is in the source, or asked for already")
    return add(workspace, ids, name=name, by=by, reference=reference, approver=approver)
