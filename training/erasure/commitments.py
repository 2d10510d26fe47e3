"""Whether the ledger's commitments are those of the samples that are trained on."""

from __future__ import annotations

from training.erasure.bundle import Bundle
from training.errors import UncheckedError, VerifyError
from training.publish.history import last_published
from training.publish.transcript import commit


def check_transcript(bundle: Bundle) -> str:
    """Each model's root, computed again from its shard file, is the one that was committed to when it was published."""
    last, memory = last_published(bundle.entries), bundle.memory
    committed = {} if last is None else {each.shard: each for each in last.transcript}
    answering = [shard for shard, record in bundle.records.items() if record.sha256 is not None]
    if missing := [shard for shard in answering if shard not in committed]:
        raise UncheckedError(
            f"the ledger has no commitment of the models of shards {', '.join(map(str, missing))}: an earlier version "
            "published them, or a workspace without samples; the next generation that is trained has one"
        )
    if memory is None:
        raise UncheckedError(f"{bundle.workspace.secret_file} is not here, under which the commitments were made")
    for shard_id in answering:
        each = committed[shard_id]
        if commit(memory.secret, shard_id, each.model, bundle.shard(shard_id)) != each:
            raise VerifyError(f"the ledger commits to other samples for shard {shard_id} than its shard file holds")
    return f"the Merkle roots of {len(answering)} models, computed again, are those that the ledger committed to"
