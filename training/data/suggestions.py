"""What a line of a forget list that names no sample may have meant.

For a person to read: what is forgotten is what the lists say, and never what is suggested here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import translate
from functools import cached_property
from itertools import chain
from posixpath import normpath, splitext
from urllib.parse import unquote

from rapidfuzz import process
from rapidfuzz.distance import OSA

SHOWN = 3  # ids that are suggested for a line
LONGEST = 500  # characters of a line that are looked at
READINGS = 60  # of a line
SIMILAR = 4  # of them that similar ids are looked for to
AROUND = "\"'`´‘’‚“”„«»‹›()[]{}<>,;:.*•·–- "  # what spreadsheets, e-mails and lists in documents put around an id
THOUSANDS = re.compile(r"\d{1,3}([,.'’_ ]\d{3})+")


class NearIds:
    """The ids of a source, to be found by what is nearly one. Nothing is done before the first question."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids

    def hint(self, text: str) -> str:
        """Which ids ``text``, a line that names none, may have meant, in words; empty where none is near."""
        if text.startswith("test/"):
            return "the test split is not trained on: delete the file there"
        read = readings(text[:LONGEST])
        forms = list(dict.fromkeys(map(plain, read)))
        found = self._same(forms)
        if not found:
            matched = self._matching(read)
            if matched:
                return f"it would stand for {len(matched)} ids ({some(matched)}), but each id takes a line of its own"
            found = self._similar(forms) or self._named(forms)
        return f"did you mean {' or '.join(map(repr, found[:SHOWN]))}?" if found else ""

    def _same(self, forms: Sequence[str]) -> list[str]:
        """Those that differ in what ``plain`` leaves out, or else in the suffix; of every piece of a line."""
        stems = [splitext(form)[0] for form in forms]
        for group, keys in ((self._forms, forms), (self._stems, stems), (self._stems, forms), (self._forms, stems)):
            found = dict.fromkeys(chain.from_iterable(group.get(key, ()) for key in keys))
            if found:
                return list(found)
        return []

    def _similar(self, forms: Sequence[str]) -> list[str]:
        """Those that take the fewest changes of a letter, at most three and one in four letters."""
        found: dict[str, float] = {}
        for form in forms[:SIMILAR]:
            if len(form) > 3:
                near = process.extract(
                    form, self._words, scorer=OSA.distance, score_cutoff=min(3, len(form) // 4), limit=SHOWN
                )
                for word, distance, _ in near:
                    found[word] = min(distance, found.get(word, distance))
        nearest = min(found.values(), default=0)
        return [sample_id for word in found if found[word] == nearest for sample_id in self._forms[word]]

    def _named(self, forms: Sequence[str]) -> list[str]:
        """Those of the same name in another folder."""
        return list(dict.fromkeys(chain.from_iterable(self._names.get(form.rsplit("/", 1)[-1], ()) for form in forms)))

    def _matching(self, read: Iterable[str]) -> list[str]:
        """The ids that a pattern or a folder stands for."""
        for reading in read:
            if any(sign in reading for sign in "*?[") and any(map(str.isalnum, reading)):
                match = re.compile(translate(reading)).match
                matched = [sample_id for sample_id in self._ids if match(sample_id)]
            else:
                matched = self._folders.get(reading.rstrip("/"), [])
            if matched:
                return matched
        return []

    @cached_property
    def _forms(self) -> dict[str, list[str]]:
        return grouped((plain(sample_id), sample_id) for sample_id in self._ids)

    @cached_property
    def _words(self) -> list[str]:
        """But for numbers: any one is near to others, which says nothing."""
        return [form for form in self._forms if not form.isdecimal()]

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return grouped((splitext(form)[0], sample_id) for form, ids in self._forms.items() for sample_id in ids)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        return grouped((form.rsplit("/", 1)[-1], sample_id) for form, ids in self._forms.items() for sample_id in ids)

    @cached_property
    def _folders(self) -> dict[str, list[str]]:
        return grouped((sample_id.rsplit("/", 1)[0], sample_id) for sample_id in self._ids if "/" in sample_id)


def plain(text: str) -> str:
    """A text without what the eye does not see or tell apart: case, width, Unicode's form, invisible characters."""
    return " ".join((text if text.isascii() else seen(text)).casefold().split())


def seen(text: str) -> str:
    """A text in Unicode's compatible form, without characters that are not seen, its digits European."""
    signs = (sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in signs)


def readings(text: str) -> list[str]:
    """The text, and what it may stand for, those of fewest steps first."""
    found = {text: None}
    waiting = [text]
    while waiting and len(found) < READINGS:
        reading = waiting.pop(0)
        for step in STEPS:
            for result in step(reading):
                if result and result not in found:
                    found[result] = None
                    waiting.append(result)
    return list(found)[:READINGS]


def visible(text: str) -> Iterator[str]:
    yield seen(text).strip()


def bare(text: str) -> Iterator[str]:
    yield text.strip(AROUND)


def path(text: str) -> Iterator[str]:
    """A path as a program or another system spells it, and as seen from further below."""
    yield unquote(text, errors="replace")
    slashes = text.replace("\\", "/")
    yield slashes
    yield normpath(slashes)
    yield slashes.partition("/")[2]


def number(text: str) -> Iterator[str]:
    """A number as people and spreadsheets write it."""
    if THOUSANDS.fullmatch(text):
        yield re.sub(r"\D", "", text)
    whole = re.fullmatch(r"[+#]?0*(\d+)(\.0*)?", text)
    if whole and text.isascii():
        yield whole[1]


def pieces(text: str) -> Iterator[str]:
    """The columns of a line, or what stands side by side in it; not of a number, whose comma means another thing."""
    if not THOUSANDS.fullmatch(text):
        yield from re.split(r"[,;|\t]", text)
        yield from text.split()


STEPS: tuple[Callable[[str], Iterator[str]], ...] = (visible, bare, path, number, pieces)


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def some(ids: Sequence[str]) -> str:
    """The first few of some ids, as they are shown."""
    return ", ".join([*map(repr, ids[:SHOWN]), *(["…"] if len(ids) > SHOWN else [])])
