"""Lists that are only monitored (``forget.apply: false``) must not bring back what was forgotten."""

from __future__ import annotations

from training.data.deal import Partition
from training.data.store import load_shard
from training.data.summary import read_summary
from training.errors import DamagedError, ForgetListError
from training.workspace import Workspace


def check_monitored(workspace: Workspace, dealt: Partition) -> None:
    """Raise ForgetListError when monitoring the listed samples would bring some back into training.

    Those are the ones that the last partition of this source left out. Raises DamagedError when the
    last partition's summary cannot be read.
    """
    if not workspace.partition_file.is_file():
        return
    try:
        last = read_summary(workspace.partition_file)
    except DamagedError as error:
        raise ForgetListError(
            f"{workspace.partition_file} is damaged and does not say what was forgotten. Set forget.apply to true: the "
            "file is then rebuilt"
        ) from error
    if last.forgotten.listed == 0:
        return
    held: set[str] = set()
    for path in workspace.shards_folder.glob("*.npy"):
        try:
            held |= set(load_shard(path).ids)
        except DamagedError:
            continue  # what it held cannot be seen: its samples count as forgotten, so nothing is risked
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
            "on purpose, take them off the lists"
        )
