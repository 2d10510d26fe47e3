"""Stage partition: write the retained samples of each shard into a file of its own.

The forget lists are applied and a drill's trigger is stamped here, so a forgotten picture is
physically absent from everything that is trained on. A shard's file is rewritten only when its
content changes; that is what tells DVC which shards to retrain.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from training.data.deal import Partition, deal, ids_digest
from training.data.forget_list import Entry, read_forget_lists
from training.data.ignored import refuse_ignored
from training.data.monitoring import check_monitored
from training.data.source import Samples, open_source
from training.data.store import Row, write_shard
from training.data.summary import Lists, Poisoned, Summary
from training.errors import ForgetListError
from training.files import json_bytes, remove, write_if_changed
from training.params import Params
from training.stages.run import run
from training.workspace import Workspace


def partition(workspace: Workspace) -> None:
    """Raises what ``deal`` and ``open_source`` raise, and nothing was changed then; what decoding raises, and some
    shard files are then those of the new partition; ForgetListError when a list changed while they were written.
    """
    with workspace.partition_lock():  # what is asked for is read under it: one that waits reads it afresh
        write_partition(workspace)


def write_partition(workspace: Workspace) -> None:
    params = workspace.read_params()
    source = open_source(params.data, workspace.source_folder(params))
    for sentence in source.skipped:
        print(sentence)
    lists = read_forget_lists(workspace.forget_folder)
    refuse_ignored(workspace.root, workspace.root / params.data.root, source.files)
    refuse_ignored(workspace.root, workspace.forget_folder, ["requests.txt", *(entry.file.name for entry in lists)])
    dealt = deal(params, lists, source)
    if not params.forget.apply:
        check_monitored(workspace, dealt)
    write_shards(workspace, params, dealt)
    if read_forget_lists(workspace.forget_folder) != lists or workspace.read_params() != params:
        raise ForgetListError("a forget list or params.yaml changed while the shards were written; run it again")
    prune(workspace, params.sisa.shards)
    show(params, lists, dealt)
    write_if_changed(workspace.poisoned_file, poisoned_list([dealt.samples.ids[index] for index in dealt.poisoned]))
    write_if_changed(workspace.partition_file, json_bytes(summary(params, lists, dealt).model_dump(mode="json")))


def write_shards(workspace: Workspace, params: Params, dealt: Partition) -> None:
    """The file of every shard, and of the test split."""
    side = params.data.image_size
    for shard_id, members in zip(params.sisa.shards, dealt.members, strict=True):
        rows = rows_of(dealt.samples, members, [dealt.slots[index][1] for index in members])
        decoded = write_shard(workspace.shard_file(shard_id), rows, side)
        state = "unchanged" if decoded is None else f"written ({decoded} pictures decoded)"
        print(f"shard {shard_id}: {len(members)} samples retained, {state}")
    test = dealt.source.test
    write_shard(workspace.test_file, rows_of(test, range(len(test.ids)), [0] * len(test.ids)), side)


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


def prune(workspace: Workspace, shards: Sequence[int]) -> None:
    """Delete what is not a shard file of today: other shards' files, leftovers of killed runs."""
    keep = {workspace.shard_file(shard_id) for shard_id in shards}
    for path in workspace.shards_folder.iterdir():
        if path not in keep:
            remove(path)


def show(params: Params, lists: Sequence[Entry], dealt: Partition) -> None:
    named, gone = ({entry.sample_id for entry in each} for each in (lists, dealt.gone))
    what = "forgotten" if params.forget.apply else "only monitored, for forget.apply is false"
    print(f"{what}: {len(named)} ids listed, {len(gone)} of them already gone from the source")
    for entry in dealt.gone:
        print(f"  already gone: {entry}")
    if dealt.poisoned:
        carriers = poisoned_by_shard(dealt)
        print(
            f"poisoned: {len(dealt.poisoned)} samples, {sum(carriers)} of them still in training, by shard "
            f"{', '.join(map(str, carriers))}"
        )


def summary(params: Params, lists: Sequence[Entry], dealt: Partition) -> Summary:
    """What later stages need to know of the partition."""
    named, gone = ({entry.sample_id for entry in each} for each in (lists, dealt.gone))
    listed = Lists(listed=len(named), already_gone=len(gone), sha256=ids_digest(named))
    none = Lists(listed=0, already_gone=0, sha256=ids_digest(()))
    size = params.data.image_size
    return Summary(
        source=params.data.source,
        classes=dealt.source.classes,
        image_shape=(size, size, 3),
        retained=tuple(len(members) for members in dealt.members),
        forgotten=listed if params.forget.apply else none,
        monitored=none if params.forget.apply else listed,
        poisoned=Poisoned(planted=len(dealt.poisoned), retained=tuple(poisoned_by_shard(dealt))),
    )


def poisoned_by_shard(dealt: Partition) -> list[int]:
    """How many poisoned samples each shard is still trained on."""
    poisoned = set(dealt.poisoned)
    return [len(poisoned & set(members)) for members in dealt.members]


def poisoned_list(ids: Sequence[str]) -> bytes:
    """Every id that was stamped, also where it is forgotten by now; written as a forget list is, ready to be one."""
    head = f"# {len(ids)} samples poisoned (poison.samples)"
    return "".join(f"{line}\n" for line in (head, *ids)).encode()


if __name__ == "__main__":
    run(partition)
