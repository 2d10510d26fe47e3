"""`sisa forget reinstate`: the only way back for what was forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from training.data.forget_list import PRIVATE, Entry
from training.data.requests import read_asked, read_requests, request_file, write_request
from training.data.subject_samples import samples_by_subject, with_samples
from training.errors import RequestError
from training.memory.suppressed import ALL, Batch, Memory, Suppressed
from training.publish.copies import copies_with
from training.publish.ledger import actor
from training.publish.memory import open_memory
from training.publish.opening import open_ledger
from training.publish.suppress import remember
from training.workspace import Workspace


def reinstate(workspace: Workspace, sample_ids: Sequence[str], reason: str, by: str | None = None) -> int:
    """Let samples be trained on again; how many of them were suppressed.

    They leave the private requests that ask for them. Killed before it ends, they stay forgotten. Raises RequestError
    when one was never forgotten, when a list still names it (a list is its owner's to change), or in an experiment.
    """
    if workspace.is_experiment:
        raise RequestError("this is an experiment, which reinstates nothing; do it in the project")
    if not reason.strip():
        raise RequestError("a reason is missing: it goes into the ledger; give one with --reason")
    of_subject = samples_by_subject(workspace)
    wanted = tuple(dict.fromkeys(name for each in sample_ids for name in with_samples(each, of_subject)))
    listed = [entry for entry in read_asked(workspace) if asks_for(entry, wanted, of_subject)]
    if listed:
        lines = "\n".join(f"  {entry}" for entry in listed)
        raise RequestError(
            "take these lines off the forget lists first, and cancel a request for a whole subject, or reinstate the "
            f"subject; nothing was changed\n{lines}"
        )
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        memory = open_memory(workspace, ledger.read())
        asked = {sample_id for request in read_requests(workspace) for sample_id in request.samples}
        known = asked | copies_with(workspace, "refused")  # a copy that partition refused was never asked for itself
        unknown = [name for name in sample_ids if not memory.suppresses(name) and name not in known]
        if unknown:
            raise RequestError(f"never forgotten here, so there is nothing to reinstate: {', '.join(unknown)}")
        take_out_of_requests(workspace, wanted)
        copies = copies_with(workspace, "refused")
        keys = [memory.secret.of_id(name) for name in wanted if memory.suppresses(name) or name in copies]
        back = lifted(memory, keys, reason, by or actor())
        if back is not None:
            remember(workspace, ledger, memory, [back])
    return 0 if back is None else back.count


def asks_for(entry: Entry, wanted: Collection[str], of_subject: Mapping[str, Sequence[str]]) -> bool:
    """Whether an entry would forget any of ``wanted`` again, and is not itself one of them in a private request."""
    if entry.file.parent.name == PRIVATE and entry.sample_id in wanted:
        return False
    return not set(wanted).isdisjoint(with_samples(entry.sample_id, of_subject))


def lifted(memory: Memory, keys: Sequence[bytes], reason: str, by: str, request: str = ALL) -> Batch | None:
    """The line of the suppression memory by which samples are asked for no longer; None when there is nothing to it.

    ``keys``: the digests of their ids. ``request``: whose asking ends; by default everybody's.
    """
    samples = tuple(memory.samples.get(key, Suppressed(id=key.hex())) for key in keys)
    if not samples:
        return None
    return Batch(
        event="reinstate",
        request=request,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        actor=by,
        secret=memory.secret.name,
        reason=reason,
        samples=samples,
    )


def take_out_of_requests(workspace: Workspace, sample_ids: Sequence[str]) -> None:
    """Take ids out of every private request; one that is left without any is deleted."""
    for request in read_requests(workspace):
        left = tuple(sample_id for sample_id in request.samples if sample_id not in sample_ids)
        if not left:
            request_file(workspace, request.name).unlink()
        elif left != request.samples:
            gone = tuple(sample_id for sample_id in request.gone if sample_id in left)
            write_request(workspace, request.model_copy(update={"samples": left, "gone": gone}))
