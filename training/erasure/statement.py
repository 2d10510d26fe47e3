"""What a certificate says, gathered: every number is from the ledger, from findings that the ledger names, or from
reports; what is not known is absent with its reason."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

from training.data.duplicates import match_files
from training.environment import environment
from training.erasure.code import commit_of
from training.erasure.findings import Verification
from training.erasure.latest import last_purged, last_verified
from training.erasure.predicate import Asked, Compared, Erasure, Retrained, Statement, Subject
from training.erasure.purge import ELSEWHERE, Purge
from training.erasure.source import source_as_read
from training.erasure.verify import PACKAGES
from training.errors import CertificateError, SisaError
from training.evaluation.reports import Absent
from training.files import sha256_file
from training.publish.bring_out import files_of
from training.publish.events import Certified, Entry, Published
from training.publish.history import generation_of, last_generation
from training.publish.ledger import whole_lines
from training.publish.memory import open_memory
from training.publish.opening import published_now
from training.publish.progress import Progress, follow, shards_touched
from training.publish.record import ShardRecord
from training.report.cells import Cell, Value
from training.report.history import read_kept
from training.workspace import Workspace

FEW = 20  # forgotten pictures; of fewer no attack says anything
VALID = timedelta(days=365)  # after which nobody should rely on it without another look


def make_statement(
    workspace: Workspace, entries: Sequence[Entry], asked: Mapping[str, Sequence[str]], salts: Mapping[str, bytes]
) -> Statement:
    """``asked``: by request the ids that it asks for. Raises CertificateError when one is not carried out, or nothing
    is published."""
    manifest, last = published_now(workspace), last_generation(entries)
    if manifest is None or last is None or sha256_file(workspace.manifest_file) != last.manifest_sha256:
        raise CertificateError("what is published is not the ledger's last generation; run `sisa publish`")
    verification, purge = last_verified(workspace, entries), last_purged(workspace, entries)
    parts = {name: parts_of(entries, name) for name in asked}
    again, now = retrained(entries, list(asked)), datetime.now(UTC)
    touched = {shard.shard for shard in again}
    warned = [*source_warning(workspace, entries, asked), *warnings(verification, purge, touched)]
    lines = whole_lines(workspace.ledger_file)
    subjects = {workspace.short(workspace.manifest_file): last.manifest_sha256}
    subjects |= {f"models/{file}": sha256 for file, sha256 in files_of(manifest).items()}
    return Statement(
        subject=[Subject(name=name, digest={"sha256": sha256}) for name, sha256 in subjects.items()],
        predicate=Erasure(
            summary=" ".join([*warned, achieved(parts)]),
            warnings=warned,
            issued=now.isoformat(timespec="seconds"),
            valid_until=(now + VALID).isoformat(timespec="seconds"),
            generation=generation_of(last),
            requests=[describe(name, parts[name], asked[name], salts[name]) for name in asked],
            retrained=again,
            verified=verification if isinstance(verification, str) else said_of(verification),
            purged=purge if isinstance(purge, str) else purge.model_dump(mode="json", exclude={"traces", "source"}),
            evidence=evidence(workspace),
            entries=len(lines),
            head=hashlib.sha256(lines[-1]).hexdigest(),
            code=commit_of(workspace),
            environment=environment(*PACKAGES),
            out_of_reach=list(ELSEWHERE if isinstance(purge, str) else purge.unreachable),
            previous=next((e.statement_sha256 for e in reversed(entries) if isinstance(e, Certified)), None),
        ),
    )


def parts_of(entries: Sequence[Entry], name: str) -> list[Progress]:
    """What became of a request; of a list that grew, each time. Raises CertificateError unless all of it is done."""
    parts = [part for part in follow(entries).requests if part.asked.request == name]
    if not parts:
        raise CertificateError(f"the ledger has no request {name!r}; `sisa forget list` names those there are")
    for part in parts:
        if part.step != "published":
            raise CertificateError(f"{name} is {part.step}, not published: nothing can be certified of it yet")
    return parts


def describe(name: str, parts: Sequence[Progress], ids: Sequence[str], salt: bytes) -> Asked:
    withdrawn = [part.withdrawn for part in parts if part.withdrawn is not None]
    return Asked(
        request=name,
        reference=parts[-1].asked.reference,
        asked=parts[0].asked.time,
        withdrawn=max(withdrawn) if withdrawn else None,
        published=max(part.published or "" for part in parts),
        pictures=sum(part.asked.samples for part in parts),
        samples=sorted(salted(salt, sample_id) for sample_id in ids),
    )


def salted(salt: bytes, sample_id: str) -> str:
    """Hex. Whoever has salt and id can tell that it is this one, and nobody else."""
    return hmac.digest(salt, sample_id.encode(), "sha256").hex()


def retrained(entries: Sequence[Entry], requests: Sequence[str]) -> list[Retrained]:
    """The shards that these requests touched, as they were when the first was asked, and as they are."""
    shards = {shard for request in requests for shard in shards_touched(entries, request)}
    first = min(part.asked.number for name in requests for part in parts_of(entries, name))
    published = [entry for entry in entries if isinstance(entry, Published)]
    before = records([entry for entry in published if entry.number < first][-1:])
    after = records(published[-1:])
    found = []
    for shard in sorted(shards & after.keys()):
        now = after[shard]
        then = before[shard].keys if shard in before else ()
        if now.keys == then:
            continue  # withdrawn with others, or away when it came, and never trained on what was asked for
        found.append(
            Retrained(
                shard=shard,
                retained=now.retained,
                slices=len(set(now.keys) - set(then)),
                before=list(then),
                after=list(now.keys),
            )
        )
    return found


def records(published: Sequence[Published]) -> dict[int, ShardRecord]:
    return {record.shard: record for entry in published for record in entry.shards}


def said_of(verification: Verification) -> dict[str, Any]:
    return {**verification.model_dump(mode="json"), "outcome": verification.outcome}


def source_warning(workspace: Workspace, entries: Sequence[Entry], requests: Collection[str]) -> Iterator[str]:
    """Whether the source still holds pictures of these requests; those of others are nobody's business here."""
    params, memory = workspace.read_params(), open_memory(workspace, entries)
    theirs = {key: each for key, each in memory.samples.items() if set(memory.asked[key]) & set(requests)}
    try:
        train = source_as_read(workspace, params).train
    except SisaError as error:
        yield f"Whether the source still holds the pictures is not known: it cannot be read ({error})."
        return
    held = len(match_files(memory.secret, theirs, train.ids, train.contents))
    if held:
        yield f"The source still holds {held} of the pictures."


def warnings(verification: Verification | str, purge: Purge | str, touched: Set[int]) -> list[str]:
    """What is not as it should be, a sentence each; ``touched``: the shards that were trained again."""
    found = []
    if isinstance(verification, str):
        found.append("It is not verified.")
    elif not verification.passed:
        found.append(
            "Its verification failed." if verification.outcome == "failed" else "It is not verified completely."
        )
    elif not verification.retrained:
        found.append("No shard was retrained to verify it.")
    elif missing := sorted(touched - {each.shard for each in verification.retrained}):
        found.append(f"To verify it, shards that it touched were not retrained: {', '.join(map(str, missing))}.")
    if isinstance(purge, str):
        found.append("Nothing was purged.")
    elif purge.left:
        found.append(f"{purge.left} traces of earlier generations are left.")
    elif not purge.complete:
        found.append(f"{len(purge.unread)} files could not be looked into.")
    return found


def achieved(parts: Mapping[str, Sequence[Progress]]) -> str:
    """What was done, in a sentence."""
    samples = sum(part.asked.samples for each in parts.values() for part in each)
    what, verb = ("1 sample", "is") if samples == 1 else (f"{samples} samples", "are")
    return f"{what} of {', '.join(parts)} {verb} no longer in what the published models were trained on."


def evidence(workspace: Workspace) -> list[Compared]:
    """Accuracy and attacks on the forget set, before and after, as the last report has them."""
    kept = read_kept(workspace)
    if not kept:
        nothing = "there is no report (`dvc repro` writes one)"
        return [Compared(what=what, before=nothing, after=nothing) for what in EVIDENCE.values()]
    now, earlier = kept[-1], kept[-2] if len(kept) > 1 else None
    first = "no generation before this one was reported here"
    few = f"too few pictures to tell anything: {now.list.pictures}, at least {FEW} are needed"
    found = []
    for name, what in EVIDENCE.items():
        if name != "accuracy_mean" and 0 < now.list.pictures < FEW:
            found.append(Compared(what=what, before=few, after=few))
            continue
        then = first if earlier is None else number(earlier.cells[name])
        found.append(Compared(what=what, before=then, after=number(now.cells[name])))
    return found


EVIDENCE = {
    "accuracy_mean": "accuracy on the test pictures",
    "forget_accuracy": "accuracy on the forgotten pictures",
    "loss_auc": "membership attack by loss on the forgotten pictures, AUC (.5: chance)",
    "ratio_auc": "membership attack by likelihood ratio, AUC (.5: chance)",
}


def number(cell: Cell) -> float | str:
    if isinstance(cell, Value):
        return round(float(cell.value), 4)
    assert isinstance(cell, Absent)
    return cell.absent
