"""Reads the forget lists: ``forget/*.txt``, one sample id a line, ``#`` comments; the union counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.errors import ForgetListError


@dataclass(frozen=True)
class Entry:
    """One line that asks for one sample to be forgotten."""

    file: Path
    line: int
    sample_id: str

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.name}:{self.line}: {self.sample_id!r}"


def read_forget_lists(folder: Path) -> list[Entry]:
    """Every entry of every list, in order of file name and line; an id may be listed more than once.

    A comment starts with ``#`` at the start of a line or after a space. Raises ForgetListError when the
    folder is missing, a list is not UTF-8, or a file beside the lists looks like one but would not
    be read: a request must never be skipped silently.
    """
    if not folder.is_dir():
        raise ForgetListError(f"the folder {folder} is missing; create it if nothing is to be forgotten")
    lists = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "README.md")
    for path in lists:
        if path.suffix != ".txt" or not path.is_file():
            raise ForgetListError(
                f"{path} would not be read: forget lists are named {folder}/NAME.txt; rename or remove it"
            )
    return [entry for path in lists for entry in _read_list(path)]


def _read_list(path: Path) -> list[Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ForgetListError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        sample_id = ("" if line.startswith("#") else line.split(" #")[0].split("\t#")[0]).strip()
        if sample_id and not sample_id.startswith("#"):
            entries.append(Entry(path, number, sample_id))
    return entries
