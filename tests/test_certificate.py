"""Certificates: what they say, who can check them, and that nothing in them can be changed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MODELS, Project, made_once
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from training.erasure.bundle import Bundle
from training.erasure.certificate import (
    ForRequester,
    check_ids,
    make_certificate,
    read_certificate,
    read_for_requester,
    refuse_expired,
    uncertified,
    verify_signature,
)
from training.erasure.contents import check_contents
from training.erasure.keys import key_file, make_key, open_signer, rotate_key, trusted_keys
from training.erasure.verify import shards_of_request, verify
from training.errors import CertificateError, KeysError
from training.forgetting.add import add
from training.forgetting.reinstate import reinstate
from training.forgetting.requests import list_requests
from training.publish.history import read_history

SALT = "00" * 32


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the signing key of a test is, or is to be."""
    path = tmp_path / "keys/signing-key.pem"
    monkeypatch.setenv("SISA_SIGNING_KEY", str(path))
    monkeypatch.delenv("SISA_SIGNING_PASSPHRASE", raising=False)
    return path


@pytest.fixture(scope="session")
def done_base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has carried out the request `ticket` for one sample of shard 1."""

    def make(folder: Path) -> None:
        project = Project.create(folder)
        project.stages(*MODELS)
        add(project.workspace, [project.victim(1, 1)], name="ticket", reference="4711")
        project.stages(*MODELS)

    return made_once(tmp_path_factory, "done", make)


@pytest.fixture
def done(done_base: Project, tmp_path: Path) -> Project:
    return done_base.copy(tmp_path / "project")


def last_entry(project: Project) -> dict[str, object]:
    entry: dict[str, object] = json.loads(project.workspace.ledger_file.read_text().splitlines()[-1])
    return entry


def test_a_certificate_says_what_the_ledger_says(done: Project) -> None:
    workspace = done.workspace
    make_key(workspace)
    verify(workspace, shards=[1])
    made = make_certificate(workspace, ["ticket"])
    statement, _ = verify_signature(read_certificate(made.files.envelope), trusted_keys(workspace))
    said = statement.predicate
    assert said.summary == (
        "The source still holds 1 of the pictures. Nothing was purged. "
        "1 sample of ticket is no longer in what the published models were trained on."
    )
    (request,) = said.requests
    assert (request.request, request.reference, request.pictures, len(request.samples)) == ("ticket", "4711", 1, 1)
    (shard,) = said.retrained
    assert (shard.shard, shard.slices, len(shard.before), len(shard.after)) == (1, 2, 3, 3)
    assert shard.before[0] == shard.after[0]
    assert statement.subject[0].name == "models/ensemble.json"
    assert statement.subject[0].digest["sha256"] == hashlib.sha256(workspace.manifest_file.read_bytes()).hexdigest()
    assert len(statement.subject) == 4
    assert isinstance(said.verified, dict)
    assert [each["shard"] for each in said.verified["retrained"]] == [1]
    assert (
        last_entry(done)["statement_sha256"]
        == hashlib.sha256(read_certificate(made.files.envelope).payload).hexdigest()
    )
    sentences = list(check_contents(workspace, statement, read_certificate(made.files.envelope).payload))
    assert sentences[-1] == "the 4 files that it certifies are those that are published"


def test_ids_are_known_to_who_has_the_salt_and_to_nobody_else(done: Project) -> None:
    make_key(done.workspace)
    made = make_certificate(done.workspace)
    sent = read_for_requester(made.files.for_requesters[0])
    statement, _ = verify_signature(read_certificate(made.files.envelope), trusted_keys(done.workspace))
    (digest,) = statement.predicate.requests[0].samples
    (sample,) = sent.samples
    assert digest == hmac.new(bytes.fromhex(sent.salt), sample.encode(), "sha256").hexdigest()
    check_ids(statement, sent)
    with pytest.raises(CertificateError, match="of other samples of ticket"):
        check_ids(statement, sent.model_copy(update={"salt": SALT}))
    with pytest.raises(CertificateError, match="says nothing of another"):
        check_ids(statement, ForRequester(request="another", salt=SALT, samples=()))
    assert stat.S_IMODE(made.files.for_requesters[0].stat().st_mode) == 0o600
    assert (
        f'"{sample}"'
        not in made.files.envelope.read_text() + made.files.html.read_text() + made.files.markdown.read_text()
    )


def test_securesystemslib_alone_verifies_it(done: Project) -> None:
    """Nothing of this project is needed: an envelope, a public key in PEM, and the library."""
    public = make_key(done.workspace)
    made = make_certificate(done.workspace)
    envelope = Envelope.from_dict(json.loads(made.files.envelope.read_text()))
    pem = (done.folder / f"models/keys/{public.keyid}.pem").read_bytes()
    key = SSlibKey.from_crypto(load_pem_public_key(pem))
    assert envelope.verify([key], 1) == {public.keyid: key}
    statement = json.loads(envelope.payload)
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "urn:sisa:erasure:v1",
    )


@pytest.fixture(scope="module")
def signed(done_base: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, bytes]]:
    """A project with a certificate, and its envelope."""
    folder = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SISA_SIGNING_KEY", str(folder / "key.pem"))
        project = done_base.copy(folder / "project")
        make_key(project.workspace)
        yield project, make_certificate(project.workspace).files.envelope.read_bytes()


@given(st.data())
def test_a_single_changed_byte_of_what_is_signed_is_refused(signed: tuple[Project, bytes], data: st.DataObject) -> None:
    project, content = signed
    document = json.loads(content)
    payload = bytearray(base64.b64decode(document["payload"]))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    document["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(CertificateError, match="the signature does not hold"):
        verify_signature(Envelope.from_dict(document), trusted_keys(project.workspace))


def test_what_another_key_signed_is_refused(done: Project, signed: tuple[Project, bytes]) -> None:
    make_key(done.workspace)
    with pytest.raises(CertificateError, match="signed by somebody else"):
        verify_signature(Envelope.from_dict(json.loads(signed[1])), trusted_keys(done.workspace))
    with pytest.raises(CertificateError, match="no public key is known"):
        verify_signature(Envelope.from_dict(json.loads(signed[1])), {})


def test_another_workspace_does_not_know_it(done: Project, signed: tuple[Project, bytes]) -> None:
    envelope = Envelope.from_dict(json.loads(signed[1]))
    statement, _ = verify_signature(envelope, trusted_keys(signed[0].workspace))
    with pytest.raises(CertificateError, match="knows no certificate"):
        list(check_contents(done.workspace, statement, envelope.payload))


def test_a_file_that_was_exchanged_after_it_was_certified_is_noticed(done: Project) -> None:
    make_key(done.workspace)
    made = make_certificate(done.workspace)
    envelope = read_certificate(made.files.envelope)
    statement, _ = verify_signature(envelope, trusted_keys(done.workspace))
    next(done.workspace.onnx_folder.glob("shard-0-*")).write_bytes(b"another")
    with pytest.raises(CertificateError, match="is not the file that is certified"):
        list(check_contents(done.workspace, statement, envelope.payload))


def test_certificates_form_a_chain_and_outlive_their_key(done: Project) -> None:
    workspace = done.workspace
    make_key(workspace)
    first = read_certificate(make_certificate(workspace).files.envelope)
    assert uncertified(read_history(workspace)) == []
    assert [item.step for item in list_requests(workspace)] == ["certified"]
    with pytest.raises(CertificateError, match="no request that is carried out and not certified yet"):
        make_certificate(workspace)
    add(workspace, [done.victim(0, 2)], name="second")
    with pytest.raises(CertificateError, match="second is withdrawn, not published"):
        make_certificate(workspace, ["second"])
    done.stages(*MODELS)
    old = open_signer(workspace).public_key
    new = rotate_key(workspace)
    assert old.keyid != new.keyid
    envelope = read_certificate(make_certificate(workspace).files.envelope)
    statement, by = verify_signature(envelope, trusted_keys(workspace))
    assert by == new.keyid
    assert statement.predicate.previous == hashlib.sha256(first.payload).hexdigest()
    assert [request.request for request in statement.predicate.requests] == ["second"]
    earlier, by = verify_signature(first, trusted_keys(workspace))
    assert by == old.keyid
    *_, last = check_contents(workspace, earlier, first.payload)
    assert last == "generation 3 was replaced since (by 5), so its files were not compared"


def test_a_request_that_found_its_shard_withdrawn_already_names_it_all_the_same(done: Project) -> None:
    workspace, shard = done.workspace, done.shard(0)
    make_key(workspace)
    add(workspace, [shard.ids[0]], name="first")
    add(workspace, [shard.ids[1]], name="second")  # there is nothing left to withdraw
    done.stages(*MODELS)
    assert shards_of_request(Bundle(workspace), "second") == {0}
    envelope = read_certificate(make_certificate(workspace, ["second"]).files.envelope)
    statement, _ = verify_signature(envelope, trusted_keys(workspace))
    assert [each.shard for each in statement.predicate.retrained] == [0]


@pytest.mark.heavy
def test_a_verification_that_failed_is_not_skipped_for_an_earlier_one_that_did_not(done: Project) -> None:
    workspace = done.workspace
    make_key(workspace)
    verify(workspace, shards=[1])
    assert not any("verif" in each for each in warned(done))
    content = workspace.shard_file(0).read_bytes()
    workspace.shard_file(0).write_bytes(content[:-1])
    assert verify(workspace, quick=True).outcome == "failed"
    assert "Its verification failed." in warned(done)
    workspace.shard_file(0).write_bytes(content)
    verify(workspace, quick=True)
    assert "No shard was retrained to verify it." in warned(done)  # quick, it does not stand for what failed
    verify(workspace, shards=[0])
    assert "To verify it, shards that it touched were not retrained: 1." in warned(done)
    verify(workspace, shards=[1])
    assert not any("verif" in each for each in warned(done))


def warned(project: Project) -> list[str]:
    made = make_certificate(project.workspace, ["ticket"])
    statement, _ = verify_signature(read_certificate(made.files.envelope), trusted_keys(project.workspace))
    return statement.predicate.warnings


@pytest.mark.heavy
def test_a_certificate_counts_the_pictures_of_its_own_requests(done: Project) -> None:
    workspace = done.workspace
    make_key(workspace)
    add(workspace, [done.victim(0, 2), done.victim(2, 2)], name="others")
    done.stages(*MODELS)
    assert "The source still holds 1 of the pictures." in warned(done)
    made = make_certificate(workspace, ["others"])
    assert made.summary.startswith("The source still holds 2 of the pictures.")


@pytest.mark.heavy
def test_findings_that_were_changed_are_not_certified(done: Project) -> None:
    make_key(done.workspace)
    verify(done.workspace, shards=[1])
    path = done.workspace.erasure.findings(str(last_entry(done)["findings_sha256"]))
    path.write_text(path.read_text().replace('"equal": true', '"equal": true ', 1))
    made = make_certificate(done.workspace, ["ticket"])
    statement, _ = verify_signature(read_certificate(made.files.envelope), trusted_keys(done.workspace))
    assert "is not what the ledger names: it was changed" in str(statement.predicate.verified)
    assert "It is not verified." in statement.predicate.warnings


def test_what_was_reinstated_since_and_what_is_too_old_holds_no_more(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = done.workspace
    make_key(workspace)
    made = make_certificate(workspace, ["ticket"])
    envelope = read_certificate(made.files.envelope)
    statement, _ = verify_signature(envelope, trusted_keys(workspace))
    refuse_expired(statement)
    old = statement.model_copy(
        update={"predicate": statement.predicate.model_copy(update={"valid_until": "2020-01-01T00:00:00+00:00"})}
    )
    with pytest.raises(CertificateError, match="to be relied on until 2020"):
        refuse_expired(old)
    reinstate(workspace, [read_for_requester(made.files.for_requesters[0]).samples[0]], "a test")
    with pytest.raises(CertificateError, match="1 samples were reinstated since"):
        list(check_contents(workspace, statement, envelope.payload))


def test_a_request_that_nobody_made_is_not_certified(done: Project) -> None:
    make_key(done.workspace)
    with pytest.raises(CertificateError, match="no request 'nobody'"):
        make_certificate(done.workspace, ["nobody"])


def test_without_a_key_nothing_is_certified_and_it_says_how_to_make_one(done: Project) -> None:
    before = done.workspace.ledger_file.read_bytes()
    with pytest.raises(KeysError, match="`sisa keys new` makes one"):
        make_certificate(done.workspace)
    assert done.workspace.ledger_file.read_bytes() == before


def test_a_key_is_kept_secret(trained: Project, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_key(trained.workspace)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(KeysError, match="is there already"):
        make_key(trained.workspace)
    key.chmod(0o640)
    with pytest.raises(KeysError, match=r"can be read by others \(mode 640\)"):
        open_signer(trained.workspace)
    monkeypatch.setenv("SISA_SIGNING_KEY", str(trained.folder / "key.pem"))
    with pytest.raises(KeysError, match="which is in the workspace"):
        key_file(trained.workspace)


def test_a_passphrase_locks_the_key(trained: Project, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_SIGNING_PASSPHRASE", "correct horse")
    public = make_key(trained.workspace)
    assert b"ENCRYPTED" in key.read_bytes()
    assert open_signer(trained.workspace).public_key.keyid == public.keyid
    for wrong in ("another", ""):
        monkeypatch.setenv("SISA_SIGNING_PASSPHRASE", wrong)
        with pytest.raises(KeysError, match="SISA_SIGNING_PASSPHRASE must be what it was made with"):
            open_signer(trained.workspace)


@pytest.mark.heavy
def test_the_command_makes_and_checks_them_also_far_from_the_workspace(done: Project, tmp_path: Path) -> None:
    out = done.run("env", *signing(tmp_path), "sisa", "keys", "new").stdout
    key_id = out.split("key id: ")[1].split()[0]
    out = done.run("env", *signing(tmp_path), "sisa", "certificate").stdout
    path = next(line for line in out.splitlines() if line.endswith("certificate.json"))
    sent = next(line.split(":")[0] for line in out.splitlines() if "/requesters/" in line)
    out = done.run("sisa", "certificate", "check", path, "--ids", sent).stdout
    assert f"signed with {key_id}" in out
    assert "it is of the sample of ticket" in out
    away = Project(tmp_path / "away")
    away.folder.mkdir()
    pem = done.folder / f"models/keys/{key_id}.pem"
    out = away.run("sisa", "certificate", "check", str(done.folder / path), "--public-key", str(pem)).stdout
    assert "1 sample of ticket is no longer in what the published models were trained on" in out
    (done.folder / path).write_text((done.folder / path).read_text().replace('"payload": "e', '"payload": "f'))
    ended = done.run("sisa", "certificate", "check", path, check=False)
    assert ended.returncode == 1
    assert "error: " in ended.stderr
    assert "Traceback" not in ended.stderr


def signing(tmp_path: Path) -> list[str]:
    return [f"SISA_SIGNING_KEY={tmp_path / 'command/key.pem'}"]
