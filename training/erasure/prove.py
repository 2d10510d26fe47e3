"""`sisa prove`: that a sample is, or is not, among what published models were trained on, as the ledger commits to it.

A proof is a file of its own: whoever has it and the ledger's export can check it, without workspace, secret or models.
It gives away the keys of these models' leaves, and with them nothing but what it proves: other samples are digests of
digests in it. What the commitments are: training/publish/transcript.py. That a tree's leaves are sorted, on which
absence rests, is seen by whoever computes its root again from the samples, as `sisa verify` does.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from training.chain.merkle import merkle_path, root_of_path
from training.data.placement import subject_of
from training.data.prints import NOTHING
from training.data.requests import read_asked
from training.data.store import load_shard
from training.errors import ProofError, UncheckedError
from training.forgetting.known import look_up
from training.publish.events import Commitment, Entry, Hex, Published
from training.publish.history import last_published, read_history
from training.publish.known import was_sample
from training.publish.ledger import parse, whole_lines
from training.publish.memory import open_memory
from training.publish.transcript import MARK, commit_to, leaves_of, mark_of_id, mark_of_pixels, model_key
from training.workspace import Workspace

Claim = Literal["included", "excluded"]


class Leaf(BaseModel):
    """A leaf and what proves that it is in the tree. In hex: ``leaf``, ``path`` from below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    leaf: Hex
    position: int
    path: tuple[Hex, ...]


class ModelProof(BaseModel):
    """Of one model. ``key``: of its leaves, hex. ``of_id``, ``of_pixels``: the leaf itself where the claim is that it
    is included, else its one or two neighbours; empty for pixels that are not known, and for a tree without leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    model: str
    key: Hex
    of_id: tuple[Leaf, ...]
    of_pixels: tuple[Leaf, ...] = ()


class Proof(BaseModel):
    """``pixels``: hex SHA-256 of the picture's upright pixels, None where only the id is proved. ``entry``: number of
    the ledger's entry that published ``generation``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    claim: Claim
    sample: str
    pixels: Hex | None
    generation: int
    entry: int
    models: tuple[ModelProof, ...]

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"


def prove(workspace: Workspace, claim: Claim, sample: str, picture: Path | None = None) -> Proof:
    """That the last generation's models saw a sample, or that none of them did.

    ``picture``: its pixels are then proved as well, where the sample is not in training; those of one that is are
    known. Raises ProofError when the claim is not true, when there never was such a sample, or what is trained on is
    not what was committed to; UncheckedError when models have no commitment.
    """
    with workspace.publish_lock():
        entries = read_history(workspace)
        last, memory = last_published(entries), open_memory(workspace, entries)
    if last is None or not last.transcript:
        raise UncheckedError(
            "the last generation commits to nothing: an earlier version published it; run `dvc repro -f`"
        )
    if last.pending or last.earlier_slice:
        raise UncheckedError("shards are pending, and what they will have seen is not committed to; run `dvc repro`")
    refuse_unknown(workspace, sample)
    trees, pixels = {}, None if picture is None else pixels_of(picture)
    for each in last.transcript:
        samples = load_shard(workspace.shard_file(each.shard))
        key = model_key(memory.secret, each.model)
        leaves = leaves_of(key, samples)
        if commit_to(each.shard, each.model, key, leaves) != each:
            raise ProofError(f"{samples.path} does not hold what the ledger committed to for shard {each.shard}")
        trees[each.shard] = key, leaves
        if sample in samples.ids:
            upright = samples.prints["upright"][samples.ids.index(sample)].tobytes()
            pixels = pixels if upright == NOTHING else upright.hex()
            if claim == "excluded":
                raise ProofError(f"{sample!r} is not excluded: shard {each.shard} is trained on it")
    models = []
    for each in last.transcript:
        key, leaves = trees[each.shard]
        of_id = evidence(leaves, mark_of_id(key, sample), claim)
        of_pixels = () if pixels is None else evidence(leaves, mark_of_pixels(key, bytes.fromhex(pixels)), claim)
        if claim == "excluded" or of_id:
            proof = ModelProof(shard=each.shard, model=each.model, key=key.hex(), of_id=of_id, of_pixels=of_pixels)
            models.append(proof)
    if not models:
        raise ProofError(f"{sample!r} is not included: no model of generation {last.generation} was trained on it")
    return Proof(
        claim=claim,
        sample=sample,
        pixels=pixels,
        generation=last.generation,
        entry=last.number,
        models=tuple(models),
    )


def refuse_unknown(workspace: Workspace, sample: str) -> None:
    """Of what never was a sample, every absence can be proved, and it means nothing."""
    if (subject := subject_of(sample)) is not None:
        hers = look_up(workspace).of_subject.get(subject, ())
        named = f": {', '.join(hers)}" if hers else ", by the ids that her pictures had"
        raise ProofError(f"models commit to samples, not to subjects: prove each of {subject}'s{named}")
    if not was_sample(workspace, read_asked(workspace))(sample):
        raise ProofError(
            f"{sample!r} was never a sample here, so its absence proves nothing; `sisa where` finds a picture's id"
        )


def pixels_of(picture: Path) -> str:
    """Hex SHA-256 of a picture's upright pixels. Raises SourceError when it cannot be decoded."""
    from training.data.imagefolder import read_picture

    return read_picture(picture, 8).prints.upright.hex()


def evidence(leaves: Sequence[bytes], mark: bytes, claim: Claim) -> tuple[Leaf, ...]:
    """The leaf of this mark, if it is there to be included; its neighbours, if it is not there and to be excluded.

    Raises ProofError when it is there and to be excluded.
    """
    place = bisect_left(leaves, mark)
    there = place < len(leaves) and leaves[place].startswith(mark)
    if claim == "included":
        return (leaf_at(leaves, place),) if there else ()
    if there:
        raise ProofError("the same picture is in training under another id; `sisa where PICTURE` names it")
    return tuple(leaf_at(leaves, each) for each in (place - 1, place) if 0 <= each < len(leaves))


def leaf_at(leaves: Sequence[bytes], position: int) -> Leaf:
    path = tuple(node.hex() for node in merkle_path(leaves, position))
    return Leaf(leaf=leaves[position].hex(), position=position, path=path)


def read_proof(path: Path) -> Proof:
    """Raises ProofError when it is missing or not one."""
    try:
        return Proof.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ProofError(f"{path} is not a proof ({error})") from error


def check_proof(proof: Proof, ledger: Path) -> Published:
    """The ledger's entry that a proof is of. Raises ProofError when it proves nothing, LedgerError when a line of the
    ledger is not linked to the one before."""
    entries: list[Entry] = parse(whole_lines(ledger))
    entry = entries[proof.entry - 1] if 0 < proof.entry <= len(entries) else None
    if not isinstance(entry, Published) or entry.generation != proof.generation:
        raise ProofError(f"{ledger} has no entry {proof.entry} that publishes generation {proof.generation}")
    committed = {each.shard: each for each in entry.transcript}
    shown = {each.shard for each in proof.models}
    if proof.claim == "excluded":
        answering = {each.shard for each in entry.shards if each.sha256 is not None}
        if shown != answering or shown != committed.keys():
            raise ProofError(f"it says nothing of shards {sorted(answering - shown)}, which answer in this generation")
    elif not shown:
        raise ProofError("it names no model")
    for each in proof.models:
        check_model(proof, each, committed.get(each.shard))
    return entry


def check_model(proof: Proof, shown: ModelProof, committed: Commitment | None) -> None:
    key = bytes.fromhex(shown.key)
    if committed is None or committed.model != shown.model or hashlib.sha256(key).hexdigest() != committed.key_sha256:
        raise ProofError(f"shard {shown.shard}: its model or key is not the one that the ledger committed to")
    check = included if proof.claim == "included" else excluded
    check(mark_of_id(key, proof.sample), shown.of_id, committed)
    if proof.pixels is not None:
        check(mark_of_pixels(key, bytes.fromhex(proof.pixels)), shown.of_pixels, committed)


def included(mark: bytes, leaves: Sequence[Leaf], committed: Commitment) -> None:
    if len(leaves) != 1 or in_tree(leaves[0], committed)[:MARK] != mark:
        raise ProofError(f"shard {committed.shard}: the leaf that is shown is not that of the sample")


def excluded(mark: bytes, leaves: Sequence[Leaf], committed: Commitment) -> None:
    """Two neighbours with the mark between them; at an end of the tree its first or last leaf alone."""
    shown = [in_tree(leaf, committed)[:MARK] for leaf in leaves]
    at = [leaf.position for leaf in leaves]
    whole = (
        (committed.leaves == 0 and not leaves)
        or (at == [0] and mark < shown[0])
        or (at == [committed.leaves - 1] and shown[0] < mark)
        or (len(at) == 2 and at[1] == at[0] + 1 and shown[0] < mark < shown[1])
    )
    if not whole:
        raise ProofError(f"shard {committed.shard}: the leaves that are shown are no neighbours of the sample's")


def in_tree(leaf: Leaf, committed: Commitment) -> bytes:
    """The leaf. Raises ProofError when it is not one of those that were committed to."""
    content = bytes.fromhex(leaf.leaf)
    try:
        root = root_of_path(content, leaf.position, committed.leaves, [bytes.fromhex(node) for node in leaf.path])
    except ValueError as error:
        raise ProofError(f"shard {committed.shard}: {error}") from error
    if root != committed.root:
        raise ProofError(f"shard {committed.shard}: a leaf that is shown is not in the tree that was committed to")
    return content
