"""What a published model was trained on, committed to in the ledger before anybody asks for a deletion.

The root of a Merkle tree over the samples, each as two leaves, its id and its picture's pixels, with the slice. Leaves
are HMACs under a key of the model's own, which is derived from the workspace's secret and committed to as well. So the
ledger gives nothing away; who gets a proof gets that key, and can tell what is proved and nothing of the other samples.
Sorted, so that two leaves that are neighbours prove that nothing lies between them (Laurie et al., RFC 6962, for the
tree; Melara et al., "CONIKS", USENIX Security 2015, section 3.1, for proofs of absence).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from contextlib import suppress

from serving.ensemble.manifest import Release
from training.chain.keys import sample_digests
from training.chain.merkle import merkle_root
from training.data.prints import NOTHING
from training.data.store import Shard, load_shard
from training.errors import DamagedError
from training.memory.secret import Secret
from training.publish.events import Commitment, Entry
from training.publish.history import last_published
from training.publish.record import ShardRecord
from training.workspace import Workspace

MARK = 16  # bytes of a leaf that say what it is of; the other two say its slice


def commitments(
    workspace: Workspace,
    secret: Secret,
    entries: Sequence[Entry],
    release: Release,
    records: Sequence[ShardRecord],
) -> tuple[Commitment, ...]:
    """For each model that answers with all its slices; those that were published before keep theirs.

    Left out is a model whose samples are not here.
    """
    last = last_published(entries)
    known = {each.model: each for each in last.transcript} if last is not None else {}
    by_shard = {record.shard: record for record in records}
    made = []
    for shard in release.voters:
        if shard.earlier_slice is not None or shard.sha256 is None:
            continue
        if shard.sha256 in known:
            made.append(known[shard.sha256])
            continue
        with suppress(DamagedError):  # publishing does not depend on it
            samples = load_shard(workspace.shard_file(shard.shard))
            if merkle_root(sample_digests(samples)) == by_shard[shard.shard].merkle_root:
                made.append(commit(secret, shard.shard, shard.sha256, samples))
    return tuple(made)


def commit(secret: Secret, shard_id: int, model: str, samples: Shard) -> Commitment:
    """``model``: hex SHA-256 of the file that was trained on the samples."""
    key = model_key(secret, model)
    return commit_to(shard_id, model, key, leaves_of(key, samples))


def commit_to(shard_id: int, model: str, key: bytes, leaves: Sequence[bytes]) -> Commitment:
    """``leaves``: as ``leaves_of`` makes them with the model's key."""
    digest = hashlib.sha256(key).hexdigest()
    return Commitment(shard=shard_id, model=model, leaves=len(leaves), root=merkle_root(leaves), key_sha256=digest)


def model_key(secret: Secret, model: str) -> bytes:
    """16 bytes."""
    return secret.digest("transcript", bytes.fromhex(model))


def leaves_of(key: bytes, samples: Shard) -> list[bytes]:
    """Sorted, 18 bytes each: what it is of, then the slice. Samples with the same pixels in one slice share a leaf."""
    uprights = [row.tobytes() for row in samples.prints["upright"]]
    leaves = set()
    for sample_id, upright, slice_id in zip(samples.ids, uprights, samples.slices.tolist(), strict=True):
        leaves.add(mark_of_id(key, sample_id) + slice_id.to_bytes(2, "big"))
        if upright != NOTHING:
            leaves.add(mark_of_pixels(key, upright) + slice_id.to_bytes(2, "big"))
    return sorted(leaves)


def mark_of_id(key: bytes, sample_id: str) -> bytes:
    return hmac.digest(key, b"id\0" + sample_id.encode(), "sha256")[:MARK]


def mark_of_pixels(key: bytes, upright: bytes) -> bytes:
    """``upright``: SHA-256 of the picture's upright pixels, as ``Prints`` has it."""
    return hmac.digest(key, b"pixels\0" + upright, "sha256")[:MARK]
