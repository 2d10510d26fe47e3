"""Which samples are trained on, and in which shard and slice: from parameters, forget lists and source.

``deal`` is pure. Partition writes what it says; membership and drills ask it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.data.forget_list import Entry
from training.data.placement import assign_slots
from training.data.poison import plant
from training.data.source import Samples, Source
from training.errors import ForgetListError, SourceError
from training.params import Params


@dataclass(frozen=True)
class Partition:
    """Positions are those in ``samples``.

    ``samples``: all of the training split, poisoned ones stamped and relabelled. ``slots``: shard and
    slice of each, also of forgotten ones. ``members``: by shard the positions of what it is trained
    on, by slice and then id. ``listed``: positions that the lists name and that are still in the
    source. ``forgotten``: those of them that leave training, none while lists are only monitored.
    ``gone``: the lists' entries whose picture is already gone. ``poisoned``: positions, rising.
    """

    source: Source
    samples: Samples
    slots: list[tuple[int, int]]
    members: list[list[int]]
    listed: frozenset[int]
    forgotten: frozenset[int]
    gone: tuple[Entry, ...]
    poisoned: list[int]


def deal(params: Params, lists: Sequence[Entry], source: Source) -> Partition:
    """Raises ForgetListError naming file, line and text of every id that cannot exist, or when nothing would be
    left to train on; ParamsError when the poison does not fit the source; SourceError when it is empty."""
    listed, gone = locate(lists, source)
    forgotten = listed if params.forget.apply else frozenset[int]()
    samples, poisoned = plant(source.train, source.classes, params.poison, params.seed)
    if not source.train.ids or not source.test.ids:
        raise SourceError(f"{params.data.root} holds no picture to train on or none to test on; both are needed")
    slots = assign_slots(samples.ids, len(params.sisa.shards), params.sisa.slices, params.seed)
    members: list[list[int]] = [[] for _ in params.sisa.shards]
    for index in sorted(range(len(slots)), key=lambda index: (slots[index][1], samples.ids[index])):
        if index not in forgotten:
            members[slots[index][0]].append(index)
    if not any(members):
        raise ForgetListError("nothing is retained: the forget lists name every training sample")
    return Partition(source, samples, slots, members, listed, forgotten, gone, poisoned)


def locate(lists: Iterable[Entry], source: Source) -> tuple[frozenset[int], tuple[Entry, ...]]:
    """Positions of the listed training samples, and the entries whose picture is already gone.

    Raises ForgetListError as ``deal`` does.
    """
    found, gone, wrong = set(), [], []
    for entry in lists:
        try:
            index = source.find(entry.sample_id)
        except ValueError as error:
            wrong.append(f"  {entry}: {error}")
            continue
        if index is None:
            gone.append(entry)
        else:
            found.add(index)
    if wrong:
        raise ForgetListError("\n".join(["nothing was changed; these lines name no training sample", *wrong]))
    return frozenset(found), tuple(gone)


def ids_digest(ids: Iterable[str]) -> str:
    """SHA-256 over the sorted ids, a line each: the same for any split into lists."""
    return hashlib.sha256("".join(f"{sample_id}\n" for sample_id in sorted(set(ids))).encode()).hexdigest()
