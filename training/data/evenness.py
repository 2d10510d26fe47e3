"""How evenly samples are spread over shards, slices and classes, and where a part of them is too small to train on.

A hash spreads names evenly, but a class or a subject may be few names with many samples, and small sets have
large deviations: 38 samples on 5 × 5 slices leave one or two a slice, and some slices none.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.deal import Partition

logger = logging.getLogger(__name__)

FEW = 10  # samples of a class in a shard
NAMED = 10  # classes; more are left out


@dataclass(frozen=True)
class Evenness:
    """Of the retained samples. ``slices``: (S, R) int64. ``classes``: (S, C) int64. ``names``: of the classes.

    ``subjects``: those of whom something is retained. ``without``: samples that have none. ``largest``: the most
    samples of one subject, which lie in ``largest_shard``; 0 where there are no subjects.
    """

    slices: NDArray[np.int64]
    classes: NDArray[np.int64]
    names: tuple[str, ...]
    subjects: int
    without: int
    largest: int
    largest_shard: int


def evenness(dealt: Partition, slices: int) -> Evenness:
    """``slices``: of each shard."""
    by_slice = np.zeros((len(dealt.members), slices), np.int64)
    by_class = np.zeros((len(dealt.members), len(dealt.source.classes)), np.int64)
    by_subject: Counter[str] = Counter()
    shard_of: dict[str, int] = {}
    for shard_id, members in enumerate(dealt.members):
        for index in members:
            by_slice[shard_id, dealt.slots[index][1]] += 1
            by_class[shard_id, dealt.samples.labels[index]] += 1
            by_subject[dealt.samples.subjects[index]] += 1
            shard_of[dealt.samples.subjects[index]] = shard_id
    without = by_subject.pop("", 0)
    [(name, largest)] = by_subject.most_common(1) or [("", 0)]
    return Evenness(
        slices=by_slice,
        classes=by_class,
        names=dealt.source.classes,
        subjects=len(by_subject),
        without=without,
        largest=largest,
        largest_shard=shard_of.get(name, 0),
    )


def in_words(even: Evenness) -> list[str]:
    """What partition prints, a sentence each. No subject is named: what is printed is kept in logs."""
    shards = even.slices.sum(axis=1)
    small, large = int(shards.argmin()), int(shards.argmax())
    fewest = even.classes.min(axis=0)
    order = np.argsort(fewest, kind="stable")[:NAMED]
    listed = [f"{fewest[label]} of {even.names[label]!r} (shard {even.classes[:, label].argmin()})" for label in order]
    more = ["…"] if len(fewest) > NAMED else []
    sentences = [
        f"smallest shard: {shards[small]} samples (shard {small}), largest: {shards[large]} (shard {large})",
        f"fewest of a class in a shard: {', '.join(listed + more)}",
    ]
    if even.subjects:
        share = even.largest / shards[even.largest_shard]
        sentences.append(
            f"subjects: {even.subjects}, the largest of {even.largest} samples, {share:.1%} of its shard "
            f"(shard {even.largest_shard}); {even.without} samples without a subject, placed by their own ids"
        )
    return sentences


def warn(even: Evenness) -> None:
    """Log what ``too_small`` finds."""
    for sentence in too_small(even):
        logger.warning(sentence)


def too_small(even: Evenness) -> list[str]:
    """What is too small to train on, a sentence each; none where all is well.

    - A shard without samples abstains.
    - A shard that lacks a class never answers with it, so whatever it answers to a picture of that class is wrong.
    - With fewer than ten samples of a class a network from scratch learns these samples rather than the class (a rule
      of thumb; what a shard answers about it is then as good as noise in the vote).
    """
    shards = even.slices.sum(axis=1)
    used = np.flatnonzero(shards)
    sentences = []
    if len(used) < len(shards):
        empty = np.flatnonzero(shards == 0).tolist()
        sentences.append(f"{len(empty)} of {len(shards)} shards have no samples and abstain ({_some(empty)})")
    counts = even.classes[used]
    lacking = [f"{even.names[label]!r} in shard {used[row]}" for row, label in np.argwhere(counts == 0)]
    if lacking:
        sentences.append(
            f"{len(lacking)} times a shard has no sample of a class, so it never answers with it ({_some(lacking)})"
        )
    few = [
        f"{counts[row, label]} of {even.names[label]!r} in shard {used[row]}"
        for row, label in np.argwhere((counts > 0) & (counts < FEW))
    ]
    if few:
        sentences.append(f"{len(few)} times a shard has fewer than {FEW} samples of a class ({_some(few)})")
    if sentences:
        sentences[-1] += "; use fewer shards (sisa.shards)"
    return sentences


def _some(parts: Sequence[object]) -> str:
    return ", ".join([*map(str, parts[:3]), *(["…"] if len(parts) > 3 else [])])
