"""`sisa prove`: what a model was trained on, committed to before anybody asked, and shown afterwards."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MODELS, Project
from hypothesis import given
from hypothesis import strategies as st

from training.chain.merkle import merkle_root
from training.erasure.prove import Proof, check_proof, evidence, excluded, included, prove, read_proof
from training.errors import ProofError
from training.forgetting.add import add
from training.publish.events import Commitment


def test_included_before_the_deletion_and_excluded_after_it(trained: Project, tmp_path: Path) -> None:
    workspace, victim = trained.workspace, trained.victim(1, 1)
    before = tmp_path / "before.json"
    before.write_bytes(prove(workspace, "included", victim).to_bytes())
    with pytest.raises(ProofError, match="shard 1 is trained on it"):
        prove(workspace, "excluded", victim)
    add(workspace, [victim])
    trained.stages(*MODELS)
    with pytest.raises(ProofError, match="no model of generation 3 was trained on it"):
        prove(workspace, "included", victim)
    after = prove(workspace, "excluded", victim)
    assert [each.shard for each in after.models] == [0, 1, 2]
    assert check_proof(after, workspace.ledger_export).generation == after.generation == 3
    # Whoever kept the first proof can still show that generation 1 had it: the ledger's entry says so for ever.
    assert check_proof(read_proof(before), workspace.ledger_export).generation == 1


def test_a_commitment_is_worked_out_by_hand(trained: Project) -> None:
    shard, last = trained.shard(0), json.loads(trained.workspace.ledger_file.read_text().splitlines()[-1])
    committed = last["transcript"][0]
    secret = trained.workspace.secret_file.read_bytes()
    key = hmac.digest(secret, b"transcript\0" + bytes.fromhex(committed["model"]), "sha256")[:16]
    leaves = set()
    for sample_id, row, slice_id in zip(shard.ids, shard.prints, shard.slices.tolist(), strict=True):
        for mark in (b"id\0" + sample_id.encode(), b"pixels\0" + row["upright"].tobytes()):
            leaves.add(hmac.digest(key, mark, "sha256")[:16] + slice_id.to_bytes(2, "big"))
    assert committed["leaves"] == len(leaves) == 2 * len(shard)
    assert committed["root"] == merkle_root(leaves)
    assert committed["key_sha256"] == hashlib.sha256(key).hexdigest()
    assert committed["model"] == trained.manifest()["shards"][0]["sha256"]


def test_a_shard_that_did_not_change_keeps_its_commitment(trained: Project) -> None:
    def committed() -> dict[int, object]:
        published = [json.loads(line) for line in trained.workspace.ledger_file.read_text().splitlines()]
        last = [entry for entry in published if entry["event"] == "published"][-1]
        return {each["shard"]: each for each in last["transcript"]}

    before = committed()
    add(trained.workspace, [trained.victim(1, 1)])
    trained.stages(*MODELS)
    after = committed()
    assert [shard for shard in (0, 1, 2) if before[shard] != after[shard]] == [1]


def test_a_proof_names_no_other_sample(trained: Project) -> None:
    victim = trained.victim(1, 1)
    text = prove(trained.workspace, "included", victim).to_bytes().decode()
    document = json.loads(text)
    assert document["sample"] == victim
    other = trained.victim(1, 0)
    assert json.dumps(other) not in text
    assert trained.workspace.secret_file.read_bytes().hex() not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: {"sample": "0"},
        lambda proof: {"claim": "excluded"},
        lambda proof: {"generation": 2},
        lambda proof: {"entry": 7},
        lambda proof: {"models": ()},
        lambda proof: {"pixels": "0" * 64},
        lambda proof: {"models": (proof.models[0].model_copy(update={"key": "00" * 16}),)},
        lambda proof: {"models": (proof.models[0].model_copy(update={"shard": 0}),)},
        lambda proof: {"models": (proof.models[0].model_copy(update={"of_id": ()}),)},
        lambda proof: {"models": (proof.models[0].model_copy(update={"of_id": proof.models[0].of_pixels}),)},
    ],
)
def test_a_changed_proof_proves_nothing(trained: Project, change: object) -> None:
    proof = prove(trained.workspace, "included", trained.victim(1, 1))
    assert proof.models[0].of_pixels
    with pytest.raises(ProofError):
        check_proof(proof.model_copy(update=change(proof)), trained.workspace.ledger_export)  # type: ignore[operator]


def test_a_proof_that_holds_no_digits_where_some_belong_is_none(trained: Project, tmp_path: Path) -> None:
    text = prove(trained.workspace, "included", trained.victim(1, 1)).to_bytes().decode()
    document = json.loads(text)
    document["models"][0]["key"] = "not hexadecimal"
    (tmp_path / "proof.json").write_text(json.dumps(document))
    with pytest.raises(ProofError, match="is not a proof"):
        read_proof(tmp_path / "proof.json")


def test_a_proof_of_absence_speaks_of_every_shard(trained: Project) -> None:
    add(trained.workspace, ["gone"], gone=True)  # nothing saw it, and it is known to have been asked for
    proof = prove(trained.workspace, "excluded", "gone")
    check_proof(proof, trained.workspace.ledger_export)
    with pytest.raises(ProofError, match=r"says nothing of shards \[2\]"):
        check_proof(proof.model_copy(update={"models": proof.models[:2]}), trained.workspace.ledger_export)


def test_samples_that_are_not_those_committed_to_prove_nothing(trained: Project) -> None:
    add(trained.workspace, ["gone"], gone=True)
    prove(trained.workspace, "excluded", "gone")
    trained.workspace.shard_file(0).write_bytes(trained.workspace.shard_file(1).read_bytes())
    with pytest.raises(ProofError, match="does not hold what the ledger committed to for shard 0"):
        prove(trained.workspace, "excluded", "gone")


@pytest.mark.parametrize("sample", ["nobody", "0124", "124 "])
def test_of_what_never_was_a_sample_nothing_is_proved(sample: str, trained: Project) -> None:
    with pytest.raises(ProofError, match="was never a sample here, so its absence proves nothing"):
        prove(trained.workspace, "excluded", sample)


@pytest.mark.heavy
def test_a_subject_is_proved_sample_by_sample(create: Callable[..., Project]) -> None:
    project = create("subjects", sisa__shards=[0, 1], sisa__slices=1, data__subjects="data/subjects/people.csv")
    (project.folder / "data/subjects/people.csv").write_text("sample_id,subject\n0,ann\n5,ann\n7,bob\n")
    project.stages(*MODELS)
    with pytest.raises(ProofError, match=r"not to subjects: prove each of ann's: 0, 5$"):
        prove(project.workspace, "excluded", "subject:ann")


marks = st.binary(min_size=16, max_size=16)


@given(st.sets(marks, max_size=40), marks)
def test_every_mark_can_be_shown_to_be_in_or_not_to_be_in_and_never_the_other(there: set[bytes], mark: bytes) -> None:
    leaves = sorted(each + b"\0\1" for each in there)
    committed = Commitment(shard=0, model="", leaves=len(leaves), root=merkle_root(leaves), key_sha256="")
    claim, check, refuse = ("included", included, excluded) if mark in there else ("excluded", excluded, included)
    shown = evidence(leaves, mark, claim)  # type: ignore[arg-type]
    check(mark, shown, committed)
    with pytest.raises(ProofError):
        refuse(mark, shown, committed)


def test_the_command_writes_a_proof_and_checks_it_by_a_ledger_alone(trained: Project, tmp_path: Path) -> None:
    victim = trained.victim(2, 0)
    trained.run("sisa", "prove", "included", victim, "--out", "proof.json")
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_bytes(trained.workspace.ledger_export.read_bytes())
    out = trained.run("sisa", "prove", "check", "proof.json", "--ledger", str(ledger)).stdout
    assert "proved: shard 2 of generation 1, published" in out
    assert f"was trained on '{victim}' and its pixels" in out
    proof = Proof.model_validate_json((trained.folder / "proof.json").read_bytes())
    (trained.folder / "proof.json").write_bytes(proof.model_copy(update={"sample": "1"}).to_bytes())
    done = trained.run("sisa", "prove", "check", "proof.json", check=False)
    assert done.returncode == 1
    assert "the leaf that is shown is not that of the sample" in done.stderr
