"""Stage partition: write the retained samples of each shard into a file of its own.

The forget lists are applied and a drill's trigger is stamped here, so a forgotten picture is
physically absent from everything that is trained on. A shard's file is rewritten only when its
content changes; that is what tells DVC which shards to retrain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data.changes import Changes
from training.data.deal import Partition, deal
from training.data.evenness import evenness, in_words, warn
from training.data.forget_list import Entry, ids_digest
from training.data.ignored import refuse_ignored
from training.data.last_partition import begin, changes_since, complete
from training.data.monitoring import check_monitored
from training.data.reading import (
    Comparison,
    changes,
    keep_reading,
    last_reading,
    make_reading,
    refuse_changed,
    remembered,
)
from training.data.requests import read_asked
from training.data.shard_files import ShardFiles
from training.data.source import open_source
from training.data.summary import Lists, Poisoned, Summary, placement
from training.errors import ChangedError
from training.files import json_bytes, remove, write_if_changed
from training.forgetting.services import withdraw_everywhere
from training.params import Params
from training.publish.changed import enter_changes
from training.publish.copies import Copy, draft
from training.publish.known import was_sample
from training.publish.suppress import recall, suppress, suppress_copies
from training.publish.withdraw import withdraw
from training.stages.run import run
from training.workspace import Workspace

PATIENCE = 10.0  # seconds for a service elsewhere that cannot be reached: training must not wait long for it
NAMED = 5  # copies; a file has them all


def partition(workspace: Workspace) -> None:
    """Raises what ``deal``, ``open_source``, decoding and ``draft`` raise, and ChangedError when lists, parameters or
    source changed meanwhile: the next ``dvc repro`` then partitions again. The shard files are then as they were.
    """
    take_back(workspace)  # before anything can fail: it stands whatever is wrong with the rest
    with workspace.partition_lock():  # what is asked for is read under it: one that waits reads it afresh
        try:
            write_partition(workspace)
        except ChangedError:  # which decoding may raise too
            workspace.partition_file.unlink(missing_ok=True)
            take_back(workspace)  # what was asked for meanwhile need not wait for the next run
            raise


def take_back(workspace: Workspace) -> None:
    """Withdraw what saw anything that is to be forgotten, here and at the services elsewhere, and say so."""
    done = withdraw(workspace)
    if done.models:
        print(
            f"withdrawn: {len(done.models)} models that saw what is to be forgotten; shards "
            f"{', '.join(map(str, done.shards))} are pending until they are trained again"
        )
    lists = [request for request in done.requests if "/" in request]
    if lists:
        print(f"{', '.join(lists)}: git never forgets the ids in a list; `sisa forget add` keeps them out of it")
    for outcome in withdraw_everywhere(workspace, patience=PATIENCE):
        if outcome.problem is None:
            print(f"withdrawn at {outcome.service} as well, which has confirmed it")


def write_partition(workspace: Workspace) -> None:
    params, before = workspace.read_params(), last_reading(workspace)
    table, digests = workspace.subjects_file(params), remembered(workspace, params, before)
    source = open_source(params.data, workspace.source_folder(params), table, digests)
    for sentence in source.skipped:
        print(sentence)
    lists = read_asked(workspace)
    refuse_ignored(workspace.root, workspace.root / params.data.root, source.files)
    if table is not None:
        refuse_ignored(workspace.root, table.parent, [table.name])
    refuse_ignored(workspace.root, workspace.forget_folder, list_names(workspace, lists))
    dealt = deal(params, lists, source, was_sample(workspace, lists))
    found = changes_since(workspace, params, source, before, lists)
    say_changes(found)
    if params.forget.apply:
        memory = suppress(workspace, lists, dealt)
    else:
        check_monitored(workspace, lists, dealt)
        memory = recall(workspace)
    drafts = draft(workspace, params, dealt, memory)
    dealt = drafts.dealt
    with drafts.files:
        reading = make_reading(workspace, params, lists, table=source.table, classes=source.classes, files=digests.seen)
        refuse_changed(workspace, Comparison(tuple(changes(workspace, reading))))
        if drafts.remember:
            suppress_copies(workspace, drafts.remember)
            take_back(workspace)
        if found is not None:
            enter_changes(workspace, found)
        begin(workspace, params)
        drafts.files.put()
    prune(workspace, params.sisa.shards)
    show_shards(params, drafts.files)
    show(params, lists, dealt)
    show_copies(workspace, drafts.copies)
    show_evenness(params, dealt)
    write_if_changed(workspace.poisoned_file, poisoned_list([dealt.samples.ids[index] for index in dealt.poisoned]))
    keep_reading(workspace, reading)
    complete(workspace, params)
    write_if_changed(workspace.partition_file, json_bytes(summary(params, lists, dealt).model_dump(mode="json")))


def list_names(workspace: Workspace, lists: Sequence[Entry]) -> list[str]:
    """The files that requests are in, or may come to be in, below ``forget/``."""
    names = [entry.file for entry in lists if entry.file.is_relative_to(workspace.forget_folder)]
    return [
        *("requests.txt", "private/request.json"),
        *(path.relative_to(workspace.forget_folder).as_posix() for path in names),
    ]


def say_changes(found: Changes | None) -> None:
    """Raises SourceError when too much vanished."""
    if found is None:
        print("another source than the last partition's: its samples replace all that were trained on")
    else:
        found.refuse_loss()
        for sentence in found.sentences():
            print(sentence)


def prune(workspace: Workspace, shards: Sequence[int]) -> None:
    """Delete what is not a shard file of today: other shards' files, leftovers of killed runs."""
    keep = {workspace.shard_file(shard_id) for shard_id in shards}
    for path in workspace.shards_folder.iterdir():
        if path not in keep:
            remove(path)


def show_shards(params: Params, files: ShardFiles) -> None:
    for shard_id, written in zip(params.sisa.shards, files.shards, strict=True):
        state = "unchanged" if written.draft is None else f"written ({written.decoded} pictures decoded)"
        print(f"shard {shard_id}: {len(written.prints)} samples retained, {state}")


def show_copies(workspace: Workspace, copies: Sequence[Copy]) -> None:
    """The first ones by name; all of them are in a file of their own."""
    for outcome, what in (("left out", "left out, as copies of what is forgotten"), ("kept", "kept, though copies")):
        found = [copy for copy in copies if copy.outcome == outcome]
        if found:
            print(f"{what}: {len(found)} ({workspace.short(workspace.copies_file)} has them all)")
            for copy in found[:NAMED]:
                print(f"  {copy}")


def show(params: Params, lists: Sequence[Entry], dealt: Partition) -> None:
    named, gone = ({entry.sample_id for entry in each} for each in (lists, dealt.gone))
    subjects = len({entry.subject for entry in lists} - {None})
    both = f"{len(named) - subjects} ids" + (f" and {subjects} subjects" if subjects else "")
    what = "forgotten" if params.forget.apply else "only monitored, for forget.apply is false"
    print(f"{what}: {both} listed, {len(gone)} of them already gone from the source")
    if subjects:
        print(f"  they name {len(dealt.listed)} samples")
    for entry in dealt.gone:
        print(f"  already gone: {entry}")
    if dealt.poisoned:
        carriers = poisoned_by_shard(dealt)
        print(
            f"poisoned: {len(dealt.poisoned)} samples, {sum(carriers)} of them still in training, by shard "
            f"{', '.join(map(str, carriers))}"
        )


def show_evenness(params: Params, dealt: Partition) -> None:
    even = evenness(dealt, params.sisa.slices)
    for sentence in in_words(even):
        print(sentence)
    warn(even)


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
        by_class=tuple(by_class(dealt)),
        forgotten=listed if params.forget.apply else none,
        monitored=none if params.forget.apply else listed,
        poisoned=Poisoned(planted=len(dealt.poisoned), retained=tuple(poisoned_by_shard(dealt))),
        placement=placement(params),
    )


def by_class(dealt: Partition) -> list[int]:
    """How many samples of each class are trained on, under the labels that training sees."""
    members = [index for each in dealt.members for index in each]
    counts: list[int] = np.bincount(dealt.samples.labels[members], minlength=len(dealt.source.classes)).tolist()
    return counts


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
