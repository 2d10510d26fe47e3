"""The last verification and the last purge that speak for what is published, as the ledger names them."""

from __future__ import annotations

from collections.abc import Sequence

from training.erasure.findings import Verification, read_findings
from training.erasure.purge import Purge
from training.errors import DamagedError
from training.files import sha256_file
from training.publish.events import Entry, Purged, Verified
from training.publish.history import last_generation
from training.workspace import Workspace


def last_verified(workspace: Workspace, entries: Sequence[Entry]) -> Verification | str:
    """The last verification of what is published in which shards were retrained, else the last one; or why there is
    none.

    One that did not pass is the one to tell of, unless it was all done again since: none speaks for another.
    """
    manifest = sha256_file(workspace.manifest_file)
    made = [entry for entry in entries if isinstance(entry, Verified) and entry.manifest_sha256 == manifest]
    chosen = unrefuted(made)[-1:] or made[-1:]
    if not chosen:
        return "this generation was not verified; `sisa verify` does"
    try:
        return read_findings(workspace, chosen[0].findings_sha256, Verification)
    except DamagedError as error:
        return f"this generation was verified, but its findings cannot be read: {error}"


def unrefuted(made: Sequence[Verified]) -> list[Verified]:
    """The verifications that passed and retrained shards, after the last one that did not pass."""
    last = max((number for number, entry in enumerate(made) if not entry.passed), default=-1)
    return [entry for entry in made[last + 1 :] if entry.retrained]


def last_purged(workspace: Workspace, entries: Sequence[Entry]) -> Purge | str:
    """The last purge since what is published was, or why there is none."""
    last = last_generation(entries)
    made = [entry for entry in entries if isinstance(entry, Purged) and last is not None and entry.number > last.number]
    if not made:
        return "nothing was purged since this generation was published; `sisa purge` does"
    try:
        return read_findings(workspace, made[-1].findings_sha256, Purge)
    except DamagedError as error:
        return f"it was purged, but what was found cannot be read: {error}"
