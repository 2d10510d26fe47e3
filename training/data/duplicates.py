"""Copies of what is forgotten, whatever they are called: the same file, the same pixels, or a picture that looks alike.

Every sample of the source is compared with what the suppression memory has of each forgotten one: the training split
must not bring it back, and the test split must not show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from training.data.placement import SUBJECT
from training.data.prints import LOOK, near
from training.memory.secret import Secret
from training.memory.suppressed import Suppressed


class How(StrEnum):
    """In what a sample and a forgotten one are the same; all but the last are exact."""

    ID = "id"
    FILE = "file"
    PIXELS = "pixels"
    LOOK = "look"


@dataclass(frozen=True)
class Match:
    """A sample of the source, by its position in its split, and the forgotten one, by the digest of its id."""

    index: int
    of: bytes
    how: How

    @property
    def exact(self) -> bool:
        return self.how is not How.LOOK


Records = Mapping[bytes, Suppressed]  # by the digest of its id, what is known of a forgotten sample


def match_subjects(secret: Secret, records: Records, subjects: Sequence[str]) -> list[Match]:
    """Samples of a forgotten subject; ``subjects``: the name of each one's, ``""`` where none is known."""
    digests = {name: secret.of_id(f"{SUBJECT}{name}") for name in set(subjects) - {""}}
    found = {name: digest for name, digest in digests.items() if digest in records}
    return [Match(index, found[name], How.ID) for index, name in enumerate(subjects) if name in found]


def match_files(
    secret: Secret, records: Records, ids: Sequence[str], contents: Sequence[bytes], *, by_id: bool = True
) -> list[Match]:
    """Samples that have the id of a forgotten one, or its file; a match each, no picture is opened.

    ``contents``: 32 bytes each, the SHA-256 of the files. ``by_id`` is False for the test split, whose ids are others.
    """
    if not records:
        return []
    known = by_print(records, "content")
    matches = []
    for index, (sample_id, content) in enumerate(zip(ids, contents, strict=True)):
        if by_id and (digest := secret.of_id(sample_id)) in records:
            matches.append(Match(index, digest, How.ID))
        elif known and (found := known.get(secret.of_print("content", content).hex())) is not None:
            matches.append(Match(index, found, How.FILE))
    return matches


def match_pictures(secret: Secret, records: Records, positions: Sequence[int], prints: NDArray[np.void]) -> list[Match]:
    """Samples with the pixels of a forgotten one, or that look like one; a match each.

    ``positions``: of the samples in their split. ``prints``: (N,) of type PRINTS.
    """
    known = by_print(records, "upright")
    matches: dict[int, Match] = {}
    for place, index in enumerate(positions) if known else ():
        found = known.get(secret.of_print("upright", prints["upright"][place].tobytes()).hex())
        if found is not None:
            matches[index] = Match(index, found, How.PIXELS)
    looking = {digest: bytes.fromhex(record.look) for digest, record in records.items() if record.look is not None}
    digests, looks = list(looking), np.frombuffer(b"".join(looking.values()), np.uint8).reshape(-1, LOOK)
    for which, place in near(looks, prints["look"]).tolist():
        matches.setdefault(positions[place], Match(positions[place], digests[which], How.LOOK))
    return list(matches.values())


def by_print(records: Records, part: str) -> dict[str, bytes]:
    """By a print, under the secret and in hex, the digest of the id of the first forgotten sample that has it."""
    known: dict[str, bytes] = {}
    for digest, record in records.items():
        value = getattr(record, part)
        if value is not None:
            known.setdefault(value, digest)
    return known


def join(*found: Iterable[Match]) -> list[Match]:
    """One match a sample, the first of it, in order of position."""
    matches: dict[int, Match] = {}
    for each in found:
        for match in each:
            matches.setdefault(match.index, match)
    return [matches[index] for index in sorted(matches)]
