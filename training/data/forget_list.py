"""Reads the forget lists, ``forget/*.txt``: an id or ``subject:NAME`` a line, ``#`` comments; the union counts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.data.placement import SUBJECT, subject_of
from training.errors import ForgetListError

# What people and systems put beside lists and nobody means as one. An editor's leftover (requests.txt~,
# .requests.txt.swp) may hold what was not saved, so it is refused.
NOT_LISTS = ("README.md", ".gitkeep", ".gitignore", ".DS_Store", "Thumbs.db", "desktop.ini")

PRIVATE = "private"  # the folder of what `sisa forget add` asks for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One line that asks for one sample to be forgotten, or for all samples of a subject.

    ``sample_id``: ``subject:NAME`` is a subject, anything else an id.
    """

    file: Path
    line: int
    sample_id: str

    @property
    def request(self) -> str:
        """What it is part of: a list, as ``forget/NAME.txt``, or the private request of this name."""
        return self.file.stem if self.file.parent.name == PRIVATE else f"{self.file.parent.name}/{self.file.name}"

    @property
    def subject(self) -> str | None:
        """The subject's name; None where a sample is asked for."""
        return subject_of(self.sample_id)

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.name}:{self.line}: {self.sample_id!r}"


def read_forget_lists(folder: Path) -> list[Entry]:
    """Every entry of every list, in order of file name and line; an id may be listed more than once.

    A comment starts with ``#`` at the start of a line or after a space. Raises ForgetListError naming
    every list that cannot be read, and everything beside the lists that might be meant as one: a request must
    never be skipped silently.
    """
    lists, problems = find_lists(folder)
    entries = []
    for path in lists:
        try:
            entries += _read_list(path)
        except ForgetListError as error:
            problems.append(str(error))
    if problems:
        raise ForgetListError("\n".join(problems))
    return entries


def readable_entries(folder: Path) -> list[Entry]:
    """The entries of every list that can be read: what is wrong with another list keeps none of these back."""
    if not folder.is_dir():
        return []
    entries: list[Entry] = []
    for path in find_lists(folder)[0]:
        try:
            entries += _read_list(path)
        except ForgetListError as error:
            logger.warning("%s", error)
    return entries


def find_lists(folder: Path) -> tuple[list[Path], list[str]]:
    """The lists, sorted, and in sentences what else lies there and would not be read.

    Raises ForgetListError when the folder itself is missing or cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise ForgetListError(f"the folder {folder} is missing; create it if nothing is to be forgotten") from None
    except OSError as error:
        raise ForgetListError(f"{folder} cannot be read ({error.strerror}); allow reading it") from error
    lists, problems = [], []
    for path in paths:
        if path.name == PRIVATE and path.is_dir():
            continue
        if path.is_file() and path.name in NOT_LISTS:
            continue
        if path.is_file() and path.suffix == ".txt" and not path.name.startswith("."):
            lists.append(path)
        else:
            problems.append(
                f"{path} would not be read: forget lists are named {folder}/NAME.txt and are files, not hidden; rename "
                "or remove it"
            )
    return lists, problems


def _read_list(path: Path) -> list[Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ForgetListError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    except OSError as error:
        raise ForgetListError(f"{path} cannot be read ({error.strerror}); allow reading it, or remove it") from error
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        sample_id = ("" if line.startswith("#") else line.split(" #")[0].split("\t#")[0]).strip()
        if sample_id and not sample_id.startswith("#"):
            subject = subject_of(sample_id)
            entries.append(Entry(path, number, sample_id if subject is None else f"{SUBJECT}{subject}"))
    return entries


def ids_digest(ids: Iterable[str]) -> str:
    """SHA-256 over the sorted ids, a line each: the same for any split into lists."""
    return hashlib.sha256("".join(f"{sample_id}\n" for sample_id in sorted(set(ids))).encode()).hexdigest()
