"""The files of all shards and of the test split: written beside the ones that stand there, then put in their place.

So all of a partition can still be looked at, and refused, while nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial

from training.data.deal import Partition
from training.data.prints import Prints
from training.data.source import Samples
from training.data.store import readable_shards
from training.data.writing import Row, Written, draft_shard
from training.params import Params
from training.workspace import Workspace


@dataclass(frozen=True)
class ShardFiles:
    """``shards``: in the order of ``sisa.shards``; ``test``: the test split's.

    A context: what was not put in its place by its end is deleted.
    """

    shards: tuple[Written, ...]
    test: Written

    def __enter__(self) -> ShardFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def put(self) -> None:
        for written in (*self.shards, self.test):
            if written.draft is not None:
                written.draft.put()

    def discard(self) -> None:
        for written in (*self.shards, self.test):
            if written.draft is not None:
                written.draft.discard()


def draft_files(
    workspace: Workspace,
    params: Params,
    dealt: Partition,
    untested: Set[int] = frozenset(),
    also: ShardFiles | None = None,
) -> ShardFiles:
    """Write them all, or what of them is not there already; ``untested``: positions that the test split leaves out.

    ``also``: drafts to copy from, which are then discarded. Raises what decoding raises; no draft is left then.
    """
    side, test = params.data.image_size, dealt.source.test
    kept = [index for index in range(len(test.ids)) if index not in untested]
    jobs = [
        (workspace.shard_file(shard_id), rows_of(dealt.samples, members, [dealt.slots[index][1] for index in members]))
        for shard_id, members in zip(params.sisa.shards, dealt.members, strict=True)
    ]
    jobs.append((workspace.test_file, rows_of(test, kept, [0] * len(kept))))
    before = [None] * len(jobs) if also is None else [written.draft for written in (*also.shards, also.test)]
    done: list[Written] = []
    try:
        for (path, rows), draft in zip(jobs, before, strict=True):
            done.append(draft_shard(path, rows, side, None if draft is None else draft.temporary))
    except BaseException:
        for written in done:
            if written.draft is not None:
                written.draft.discard()
        raise
    finally:
        if also is not None:
            also.discard()
    return ShardFiles(tuple(done[:-1]), done[-1])


def rows_of(samples: Samples, indices: Sequence[int], slices: Sequence[int]) -> list[Row]:
    """Some samples as the store takes them, each with its slice."""
    return [
        Row(
            sample_id=samples.ids[index],
            slice_id=slice_id,
            label=int(samples.labels[index]),
            fingerprint=samples.fingerprints[index],
            decode=partial(samples.decode, index),
        )
        for index, slice_id in zip(indices, slices, strict=True)
    ]


def held_prints(workspace: Workspace) -> dict[str, Prints]:
    """By id the prints of all that the shard files hold as they stand; those that cannot be read hold nothing."""
    held: dict[str, Prints] = {}
    for shard in readable_shards(workspace.shards_folder):
        for sample_id, row in zip(shard.ids, shard.prints, strict=True):
            held[sample_id] = Prints(*(row[name].tobytes() for name in Prints._fields))
    return held
