"""`sisa erase`: a request from its first word to its certificate, in one command.

Each step looks at what is there before it does anything, so the same command resumes whatever was stopped, however it
was stopped. It ends at the first step that fails.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from training.data.requests import readable_requests
from training.dvc import run_dvc
from training.erasure.bundle import Bundle
from training.erasure.certificate import Files, made_for, make_certificate
from training.erasure.keys import open_signer
from training.erasure.latest import last_purged, unrefuted
from training.erasure.purge import delete_from_source, purge
from training.erasure.verify import answering, shards_of_request, verify
from training.errors import EraseError, KeysError
from training.files import sha256_file
from training.forgetting.add import add
from training.forgetting.requests import steps_of
from training.forgetting.services import withdraw_everywhere
from training.git import ask_git, run_git
from training.publish.events import Verified
from training.publish.history import read_history
from training.publish.publish import publish
from training.publish.withdraw import withdraw
from training.workspace import Workspace

logger = logging.getLogger(__name__)

STEPS = 7


class Erased(BaseModel):
    """``send``: what goes to the requester: certificate, its page, and what tells them which digests are theirs."""

    model_config = ConfigDict(frozen=True)

    request: str
    summary: str
    send: tuple[Path, ...]


def erase(
    workspace: Workspace,
    request: str,
    sample_ids: Sequence[str] = (),
    *,
    reference: str | None = None,
    every_shard: bool = False,
    source: bool = False,
    commit: bool = False,
) -> Erased:
    """Ask, withdraw, retrain, commit, verify, purge, certify.

    ``sample_ids``: of a request that is new; none to resume, or for a forget list. ``every_shard``: verify all of
    them, not only those that the samples lay in. ``source``: delete forgotten pictures of an image folder, too.
    ``commit``: commit dvc.lock and the ledger's export, nothing else. Raises EraseError at the step that cannot be
    done, and what the steps themselves raise.
    """
    if not request.strip():
        raise EraseError("--request is empty; give the request a name")
    if workspace.is_experiment:
        raise EraseError("this is an experiment, which erases nothing; do it in the project")
    try:
        open_signer(workspace)  # or the end could not be reached
    except KeysError as error:
        raise EraseError(f"{error}. Nothing was asked for or withdrawn yet") from error
    with workspace.run_lock():
        say(1, f"the request {request}")
        ask(workspace, request, sample_ids, reference)
        say(2, "withdraw what saw its samples")
        take_back(workspace)
        say(3, "retrain without them")
        if source:
            delete_from_source(workspace)  # first, or the source would have changed since the models were made
        retrain(workspace, request)
        say(4, "commit dvc.lock and the ledger")
        enter_into_git(workspace, f"Forget {request}", commit)
        say(5, "verify")
        ensure_verified(workspace, request, every_shard)
        say(6, "purge")
        ensure_purged(workspace)
        say(7, "certify")
        made = made_for(workspace, request) or make_certificate(workspace, [request])
        enter_into_git(workspace, f"Certify {request}", commit)
    return Erased(
        request=request, summary=made.summary, send=(made.files.envelope, made.files.html, *existing(made.files))
    )


def say(step: int, what: str) -> None:
    logger.info("%d of %d: %s", step, STEPS, what)


def existing(files: Files) -> list[Path]:
    """What requesters are sent, until a later purge deletes it."""
    return [path for path in files.for_requesters if path.is_file()]


def ask(workspace: Workspace, request: str, sample_ids: Sequence[str], reference: str | None) -> None:
    known = {each.name: set(each.samples) for each in readable_requests(workspace)}
    known |= {name: set(sample_ids) for name in steps_of(read_history(workspace)) if name not in known}
    if request not in known:
        if not sample_ids:
            raise EraseError(f"there is no request {request!r} yet; give the ids that it asks for")
        done = add(workspace, sample_ids, name=request, reference=reference)
        if done.unknown:
            rest = "The others are asked for and withdrawn" if done.request else "Nothing was asked for"
            raise EraseError(
                f"never a sample here: {', '.join(done.unknown)}. {rest}; give the right ids of those under another "
                "name"
            )
        return
    if more := set(sample_ids) - known[request]:
        raise EraseError(f"{request} does not ask for {min(more)!r}; ask for it under another name")


def take_back(workspace: Workspace) -> None:
    withdraw(workspace)
    if problems := [each for each in withdraw_everywhere(workspace) if each.problem is not None]:
        raise EraseError(f"{problems[0].service} may still answer with models that saw them: {problems[0].problem}")


def retrain(workspace: Workspace, request: str) -> None:
    run_dvc(workspace, "repro")
    publish(workspace)  # what a run that was stopped had left to do
    step = steps_of(read_history(workspace)).get(request)
    if step != "published":
        raise EraseError(
            f"{request} is {step or 'not in the ledger'} after `dvc repro`; `sisa status` says what is open"
        )


def enter_into_git(workspace: Workspace, message: str, commit: bool) -> None:
    """Commit dvc.lock and the ledger's export, where they changed. Raises EraseError with what to type instead."""
    files = ["dvc.lock", workspace.short(workspace.ledger_export)]
    changed = ask_git(workspace, "status", "--porcelain", "--", *files)
    if changed is None:
        raise EraseError(f"{workspace.root} is not in a git repository, which an erasure is recorded in; `git init`")
    if not changed:
        return
    if not commit:
        raise EraseError(
            f"dvc.lock and the ledger are to be committed: `git add {' '.join(files)} && git commit -m {message!r}`, "
            "then the same command again (or with --commit)"
        )
    run_git(workspace, "add", "--", *files)
    run_git(workspace, "commit", "--quiet", "--message", message, "--only", "--", *files)


def ensure_verified(workspace: Workspace, request: str, every_shard: bool) -> None:
    """Unless the ledger says that what is published was verified, these shards retrained."""
    bundle = Bundle(workspace)
    wanted = answering(bundle) if every_shard else shards_of_request(bundle, request)
    manifest = sha256_file(workspace.manifest_file)
    made = [each for each in bundle.entries if isinstance(each, Verified) and each.manifest_sha256 == manifest]
    for entry in unrefuted(made):
        if wanted <= set(entry.retrained):
            logger.info("verified on %s", entry.time)
            return
    if not wanted:
        logger.info("no shard that answers was touched, so none is retrained; --every-shard retrains all")
    found = verify(workspace, shards=wanted, quick=not wanted)
    if not found.passed:
        wrong = [f"{check.name}: {check.found}" for check in found.checks if check.outcome != "held"]
        raise EraseError(f"what is published could not be verified ({found.outcome})\n  " + "\n  ".join(wrong))
    equal = [str(each.shard) for each in found.retrained if each.equal]
    logger.info(
        "all %d checks held%s",
        len(found.checks),
        f"; retrained from scratch, bit for bit the same: shards {', '.join(equal)}" if equal else "",
    )


def ensure_purged(workspace: Workspace) -> None:
    """Unless it was done, completely, since this generation was published."""
    before = last_purged(workspace, read_history(workspace))
    if not isinstance(before, str) and before.complete:
        logger.info("purged on %s", before.time)
        return
    found = purge(workspace)
    if not found.complete:
        raise EraseError(
            f"{found.left} traces are left, {len(found.unread)} files could not be looked into; `sisa purge --dry-run` "
            "names them"
        )
    logger.info("%d removed; %d files looked into, no trace is left", found.removed, found.scanned)
