"""Signs what was done, and checks what was signed: a DSSE envelope around an in-toto statement.

https://github.com/secure-systems-lab/dsse. Any program that knows the format verifies it with the public key alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import SSlibKey

from training.erasure.keys import open_signer
from training.erasure.predicate import Statement
from training.erasure.readable import render
from training.erasure.statement import make_statement, parts_of, salted
from training.errors import CertificateError
from training.files import json_bytes, write_atomic
from training.git import ask_git
from training.publish.asked import asked_for
from training.publish.events import Certified, Entry, Hex
from training.publish.history import generation_of, last_generation, read_history
from training.publish.opening import open_ledger
from training.publish.progress import certified, follow
from training.workspace import Workspace

logger = logging.getLogger(__name__)

PAYLOAD = "application/vnd.in-toto+json"
SALT = 32  # bytes


class ForRequester(BaseModel):
    """What is sent to who asked, beside the certificate: which of its digests are theirs. ``salt``: hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: str
    salt: Hex
    samples: tuple[str, ...]


class Files(BaseModel):
    """Of a certificate: the envelope, its readable twins, and what each requester is sent."""

    model_config = ConfigDict(frozen=True)

    envelope: Path
    html: Path
    markdown: Path
    for_requesters: tuple[Path, ...]


class Made(BaseModel):
    """A certificate that was signed. ``summary``: its own."""

    model_config = ConfigDict(frozen=True)

    files: Files
    summary: str


def make_certificate(workspace: Workspace, requests: Sequence[str] = ()) -> Made:
    """Sign what was done for these requests; without any, for all that are carried out and not certified yet.

    Interrupted, nothing is in the ledger, and the next one signs. Raises CertificateError when a request is not carried
    out or there is none, KeysError when there is no usable key.
    """
    if workspace.is_experiment:
        raise CertificateError("this is an experiment; certify in the project")
    signer = open_signer(workspace)
    warn_of_key(workspace, signer.public_key.keyid)
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        entries = ledger.read()
        names = list(requests) or uncertified(entries)
        if not names:
            raise CertificateError("there is no request that is carried out and not certified yet")
        asked = ids_of(workspace, entries, names)
        salts = {name: secrets.token_bytes(SALT) for name in names}
        statement = make_statement(workspace, entries, asked, salts)
        payload = to_payload(statement)
        envelope = Envelope(payload, PAYLOAD, {})
        envelope.sign(signer)
        digest = hashlib.sha256(payload).hexdigest()
        made = write_all(workspace, envelope, statement, asked, salts)
        ledger.append(
            Certified.model_validate(
                {
                    **ledger.stamp(),
                    "generation": statement.predicate.generation,
                    "requests": tuple(names),
                    "statement_sha256": digest,
                    "key_id": signer.public_key.keyid,
                    "before": statement.predicate.previous,
                }
            )
        )
        return made


def warn_of_key(workspace: Workspace, key_id: str) -> None:
    """Whoever clones the project checks signatures with the keys that git has."""
    path = workspace.short(workspace.erasure.keys / f"{key_id}.pem")
    if ask_git(workspace, "ls-files", "--error-unmatch", "--", path) is None:
        logger.warning("%s is not in git: commit it, or nobody else can check what is signed with it", path)


def made_for(workspace: Workspace, request: str) -> Made | None:
    """The last certificate of a request, if nothing was asked for or published since; None when there is none."""
    entries = read_history(workspace)
    last = last_generation(entries)
    for entry in reversed(entries):
        if isinstance(entry, Certified) and request in entry.requests:
            if request in uncertified(entries) or entry.generation != generation_of(last):
                return None
            files = files_of(workspace, entry.generation, entry.statement_sha256, len(entry.requests))
            if not files.envelope.is_file():
                return None
            statement = Statement.model_validate_json(read_certificate(files.envelope).payload)
            return Made(files=files, summary=statement.predicate.summary)
    return None


def files_of(workspace: Workspace, generation: int, digest: str, requests: int) -> Files:
    """Where a certificate lies; ``digest``: of its statement, in hex."""
    name = f"generation-{generation}-{digest[:12]}"
    home, sent = workspace.erasure.certificates / name, workspace.erasure.requesters / name
    return Files(
        envelope=home / "certificate.json",
        html=home / "certificate.html",
        markdown=home / "certificate.md",
        for_requesters=tuple(sent / f"{number}.json" for number in range(requests)),
    )


def write_all(
    workspace: Workspace,
    envelope: Envelope,
    statement: Statement,
    asked: Mapping[str, Sequence[str]],
    salts: Mapping[str, bytes],
) -> Made:
    """The envelope last: where it is, the rest is."""
    html, markdown = render(statement, next(iter(envelope.signatures)))
    said, digest = statement.predicate, hashlib.sha256(envelope.payload).hexdigest()
    files = files_of(workspace, said.generation, digest, len(asked))
    for path, (name, ids) in zip(files.for_requesters, asked.items(), strict=True):
        sent = ForRequester(request=name, salt=salts[name].hex(), samples=tuple(ids))
        write_atomic(path, json_bytes(sent.model_dump(mode="json")), mode=0o600)
    write_atomic(files.html, html.encode())
    write_atomic(files.markdown, markdown.encode())
    write_atomic(files.envelope, json_bytes(envelope.to_dict()))
    return Made(files=files, summary=said.summary)


def uncertified(entries: Sequence[Entry]) -> list[str]:
    """Requests that are carried out, and that no certificate names since they last grew."""
    steps: dict[str, set[str]] = {}
    for part in follow(entries).requests:
        steps.setdefault(part.asked.request, set()).add(part.step)
    done = certified(entries)
    return [name for name, each in steps.items() if each == {"published"} and name not in done]


def ids_of(workspace: Workspace, entries: Sequence[Entry], names: Sequence[str]) -> dict[str, list[str]]:
    """By request what it asks for. Raises CertificateError when that is not known any more, or not carried out."""
    asked = asked_for(workspace)
    for name in names:
        parts_of(entries, name)
        if name not in asked:
            raise CertificateError(f"{name}: the list or request is not there any more, so its ids cannot be certified")
    return {name: asked[name] for name in names}


def to_payload(statement: Statement) -> bytes:
    """Canonical JSON: the same statement is always the same bytes."""
    return rfc8785.dumps(statement.model_dump(mode="json", by_alias=True))


def read_certificate(path: Path) -> Envelope:
    """Raises CertificateError when it is missing or no envelope."""
    try:
        return Envelope.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, FormatError) as error:
        raise CertificateError(f"{path} is not a certificate ({type(error).__name__}: {error})") from error


def verify_signature(envelope: Envelope, keys: Mapping[str, SSlibKey]) -> tuple[Statement, str]:
    """The statement, and the id of the key that signed it. Raises CertificateError when none of these keys did."""
    if not keys:
        raise CertificateError("no public key is known: give one with --public-key, or run it in the workspace")
    try:
        accepted = envelope.verify(list(keys.values()), 1)
    except VerificationError:
        signed = ", ".join(envelope.signatures) or "nobody"
        raise CertificateError(
            f"the signature does not hold: signed by {signed}, known are the keys {', '.join(keys)}. It was changed, "
            "or signed by somebody else"
        ) from None
    if envelope.payload_type != PAYLOAD:
        raise CertificateError(f"it is of type {envelope.payload_type}, expected {PAYLOAD}")
    try:
        return Statement.model_validate_json(envelope.payload), next(iter(accepted))
    except ValidationError as error:
        raise CertificateError(f"what is signed is no statement of an erasure ({error.errors()[0]['msg']})") from error


def refuse_expired(statement: Statement) -> None:
    """Raises CertificateError when nobody should rely on it any more without another look."""
    if datetime.fromisoformat(statement.predicate.valid_until) < datetime.now(UTC):
        raise CertificateError(
            f"it was to be relied on until {statement.predicate.valid_until}; verify, and certify anew"
        )


def check_ids(statement: Statement, sent: ForRequester) -> None:
    """Raises CertificateError unless the certificate is of these samples, all of them and no other."""
    salt = bytes.fromhex(sent.salt)
    expected = sorted(salted(salt, sample_id) for sample_id in sent.samples)
    for request in statement.predicate.requests:
        if request.request == sent.request:
            if request.samples != expected:
                raise CertificateError(f"the certificate is of other samples of {sent.request} than those in this file")
            return
    raise CertificateError(f"the certificate says nothing of {sent.request}")


def read_for_requester(path: Path) -> ForRequester:
    """Raises CertificateError when it is not what a requester is sent."""
    try:
        return ForRequester.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CertificateError(f"{path} is not what is sent to a requester ({error})") from error


def history_of(workspace: Workspace) -> dict[str, Certified]:
    """By the digest of their statements, the certificates that the ledger knows."""
    return {entry.statement_sha256: entry for entry in read_history(workspace) if isinstance(entry, Certified)}
