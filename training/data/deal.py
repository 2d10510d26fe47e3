"""Which samples are trained on, and in which shard and slice: from parameters, forget lists and source.

``deal`` depends on what it is given and on SISA_PLACEMENT_KEY. Partition writes what it says; membership and drills
ask it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from training.data.forget_list import Entry
from training.data.placement import SUBJECT, assign_slots, placement_key, placement_names
from training.data.poison import plant
from training.data.source import Samples, Source
from training.data.suggestions import NearIds
from training.errors import ForgetListError, SourceError
from training.params import Params

NAMED = 20  # lines that name no sample; more are counted


@dataclass(frozen=True)
class Partition:
    """Positions are those in ``samples``.

    ``samples``: all of the training split, poisoned ones stamped and relabelled. ``slots``: shard and
    slice of each, also of forgotten ones. ``members``: by shard the positions of what it is trained
    on, by slice and then id. ``listed``: positions that the lists name and that are still in the
    source. ``forgotten``: those of them that leave training, none while lists are only monitored.
    ``gone``: the lists' entries of which nothing is left in the source. ``poisoned``: positions, rising.
    """

    source: Source
    samples: Samples
    slots: list[tuple[int, int]]
    members: list[list[int]]
    listed: frozenset[int]
    forgotten: frozenset[int]
    gone: tuple[Entry, ...]
    poisoned: list[int]


def deal(params: Params, lists: Sequence[Entry], source: Source, known: Callable[[str], bool]) -> Partition:
    """``known``: whether there ever was a training sample, or subject, of an entry's text.

    Raises ForgetListError naming file, line and text of every entry that names none, or when nothing would be left to
    train on; ParamsError when the poison does not fit the source, or the placement key is another one; SourceError
    when the source is empty.
    """
    key = placement_key(params.data.placement_key_digest)
    listed, gone = locate(lists, source, known)
    forgotten = listed if params.forget.apply else frozenset[int]()
    samples, poisoned = plant(source.train, source.classes, params.poison, params.seed)
    if not source.train.ids or not source.test.ids:
        raise SourceError(f"{params.data.root} holds no picture to train on or none to test on; both are needed")
    names = placement_names(samples.ids, samples.subjects)
    slots = assign_slots(names, len(params.sisa.shards), params.sisa.slices, params.seed, key)
    members: list[list[int]] = [[] for _ in params.sisa.shards]
    for index in sorted(range(len(slots)), key=lambda index: (slots[index][1], samples.ids[index])):
        if index not in forgotten:
            members[slots[index][0]].append(index)
    if not any(members):
        raise ForgetListError("nothing is retained: the forget lists name every training sample")
    return Partition(source, samples, slots, members, listed, forgotten, gone, poisoned)


def without(dealt: Partition, positions: Set[int]) -> Partition:
    """The same with more of it forgotten. Raises ForgetListError when nothing would be left to train on."""
    members = [[index for index in shard if index not in positions] for shard in dealt.members]
    if not any(members):
        raise ForgetListError("nothing is retained: all that the lists leave are copies of what they name")
    return replace(dealt, members=members, forgotten=dealt.forgotten | positions)


def locate(
    lists: Iterable[Entry], source: Source, known: Callable[[str], bool]
) -> tuple[frozenset[int], tuple[Entry, ...]]:
    """Positions of the listed training samples, and the entries of which nothing is left in the source.

    What is not in the source is gone only if it is ``known``; else somebody mistyped it. Raises ForgetListError as
    ``deal`` does, with ids that may have been meant.
    """
    of_subject = positions_by_subject(source.train)
    found, gone = set[int](), []
    wrong: list[tuple[Entry, str]] = []
    for entry in lists:
        indices, reason = [], "no training sample has this id, and none is known to have had it"
        try:
            if entry.subject is not None:
                indices = find_subject(entry.subject, of_subject, source.subjects)
            else:
                index = source.find(entry.sample_id)
                indices = [] if index is None else [index]
        except ValueError as error:
            reason = str(error)
        if indices:
            found.update(indices)
        elif known(entry.sample_id) or entry.subject in source.subjects:
            gone.append(entry)
        else:
            wrong.append((entry, reason))
    if wrong:
        raise ForgetListError("\n".join(wrong_lines(wrong, source)))
    return frozenset(found), tuple(gone)


def wrong_lines(wrong: Sequence[tuple[Entry, str]], source: Source) -> list[str]:
    """The lines of an error about entries that name no sample, each with the reason."""
    near = NearIds(source.train.ids)
    near_subjects = NearIds([f"{SUBJECT}{name}" for name in sorted(source.subjects)])
    lines = ["nothing was changed; these lines name no training sample"]
    for entry, reason in wrong[:NAMED]:
        hint = (near if entry.subject is None else near_subjects).hint(entry.sample_id)
        lines.append(f"  {entry}: {reason}{'; ' if hint else ''}{hint}")
    if len(wrong) > NAMED:
        lines.append(f"  … and {len(wrong) - NAMED} more")
    return [
        *lines,
        "Correct or remove them. For a sample that left the source before it was ever listed: "
        "`sisa forget add --gone ID`",
    ]


def positions_by_subject(samples: Samples) -> dict[str, list[int]]:
    """Where each subject's samples are, rising; those without a subject are left out."""
    positions = defaultdict(list)
    for index, subject in enumerate(samples.subjects):
        if subject:
            positions[subject].append(index)
    return dict(positions)


def find_subject(name: str, positions: Mapping[str, list[int]], known: Collection[str]) -> list[int]:
    """Positions of a subject's samples, none when all are gone. Raises ValueError when it is not known."""
    if name in known:
        return positions.get(name, [])
    if not known:
        raise ValueError("no subject is known (data.subjects is none, or names nobody)")
    raise ValueError("there is no such subject, and none of this name is known to have been there")
