"""Whether what a certificate says is what the workspace has: its ledger, findings, files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from training.erasure.certificate import history_of
from training.erasure.predicate import Statement
from training.errors import CertificateError
from training.files import sha256_file
from training.publish.events import Reinstated
from training.publish.history import generation_of, last_generation, read_history
from training.publish.ledger import whole_lines
from training.workspace import Workspace


def check_contents(workspace: Workspace, statement: Statement, payload: bytes) -> Iterator[str]:
    """A sentence for everything that holds. Raises CertificateError at the first that does not."""
    said, digest = statement.predicate, hashlib.sha256(payload).hexdigest()
    entries, lines = read_history(workspace), whole_lines(workspace.ledger_file)
    known = history_of(workspace)
    if digest not in known:
        raise CertificateError(f"the ledger of {workspace.root} knows no certificate {digest}")
    entry = known[digest]
    yield f"entry {entry.number} of the ledger, {entry.time}, is of this certificate"
    if said.entries >= entry.number or hashlib.sha256(lines[said.entries - 1]).hexdigest() != said.head:
        raise CertificateError(f"the ledger had another line {said.entries} when this was signed: {said.head} expected")
    yield f"the ledger continues the {said.entries} entries that it had then"
    if said.previous is not None and (said.previous not in known or known[said.previous].number >= entry.number):
        raise CertificateError(f"the ledger knows no certificate {said.previous} before this one")
    yield "it is the first" if said.previous is None else f"the one before it, {said.previous[:16]}, is in the ledger"
    if back := [each for each in entries[entry.number :] if isinstance(each, Reinstated)]:
        raise CertificateError(
            f"{sum(each.samples for each in back)} samples were reinstated since (entry {back[0].number} of the "
            f"ledger, {back[0].time}), and may be trained on again; if those are others than this one's, certify anew"
        )
    generation = generation_of(last_generation(entries))
    if said.generation < generation:
        yield f"generation {said.generation} was replaced since (by {generation}), so its files were not compared"
        return
    for subject in statement.subject:
        path = workspace.root / subject.name
        if not path.is_file() or sha256_file(path) != subject.digest["sha256"]:
            raise CertificateError(f"{path} is not the file that is certified, {subject.digest['sha256']}")
    yield f"the {len(statement.subject)} files that it certifies are those that are published"
