"""Lists that are only monitored (``forget.apply: false``) must not bring back what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from training.data.deal import Partition
from training.data.forget_list import PRIVATE, Entry
from training.data.reading import last_reading
from training.data.store import readable_shards
from training.data.summary import read_summary
from training.errors import DamagedError, ForgetListError
from training.workspace import Workspace


def check_monitored(workspace: Workspace, asked: Sequence[Entry], dealt: Partition) -> None:
    """Raise ForgetListError when monitoring the listed samples would bring some back into training.

    Private requests are never only monitored.

    Those are the ones that the last partition of this source left out. Raises DamagedError when the
    last partition's summary cannot be read.
    """
    private = [entry for entry in asked if entry.file.parent.name == PRIVATE]
    if private:
        raise ForgetListError(
            f"forget.apply is false, but {len(private)} samples are asked for by `sisa forget add`, and such a request "
            "is never only monitored; set forget.apply to true, or take it back with `sisa forget cancel`"
        )
    if not forgot(workspace):
        return
    held: set[str] = set()
    for shard in readable_shards(workspace.shards_folder):
        held |= set(shard.ids)  # what another one held cannot be seen: it counts as forgotten, so nothing is risked
    train = dealt.source.train.ids
    if held and held.isdisjoint(train):  # of another source
        return
    back = sorted({train[index] for index in dealt.listed} - held)
    if back:
        some = ", ".join([*back[:3], *(["…"] if len(back) > 3 else [])])
        raise ForgetListError(
            f"forget.apply is false, but {len(back)} listed samples ({some}) are not trained on now, since the last "
            "partition forgot some: monitored, they would come back into training. Nothing was changed. Set "
            "forget.apply to true; lists can be monitored only until something on them is forgotten. To train on these "
            "on purpose, take them off the lists, and `sisa forget reinstate` them"
        )


def forgot(workspace: Workspace) -> bool:
    """Whether the last partition left anything out; raises ForgetListError when its summary is damaged."""
    if workspace.partition_file.is_file():
        try:
            return read_summary(workspace.partition_file).forgotten.listed > 0
        except DamagedError as error:
            raise ForgetListError(
                f"{workspace.partition_file} is damaged and does not say what was forgotten. Set forget.apply to true: "
                "the file is then rebuilt"
            ) from error
    reading = last_reading(workspace)  # it stays where the summary was deleted, since something changed meanwhile
    return reading is not None and reading.params["forget.apply"] is True and bool(reading.lists)
