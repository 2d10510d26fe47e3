"""Whom a sample is of, its subject (a person, a customer): by the folder it lies in, or by ``data/subjects/NAME.csv``.

A subject is forgotten as a whole, so two spellings of one name would be half a deletion: names are checked here.
No source is read and nothing slow is imported: `sisa check` asks as well.
"""

from __future__ import annotations

import csv
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from training.errors import SourceError

logger = logging.getLogger(__name__)

COLUMNS = ("sample_id", "subject")
NAMED = 20  # problems; more are counted


def subject_of_path(sample_id: str) -> str:
    """ann of CLASS/ann/NAME, whatever folders lie between; ``""`` of CLASS/NAME."""
    parts = sample_id.split("/")
    return parts[1] if len(parts) > 2 else ""


def subjects_of(sample_ids: Iterable[str], kind: str, table: Mapping[str, str] | None) -> list[str]:
    """The subject of each sample, ``""`` where none is known; ``kind``: ``data.subjects``, ``table``: its table."""
    if table is not None:
        return [table.get(sample_id, "") for sample_id in sample_ids]
    return [subject_of_path(sample_id) if kind == "folder" else "" for sample_id in sample_ids]


def read_subjects(path: Path) -> dict[str, str]:
    """Subject by sample id, of a CSV file in UTF-8 with the columns ``sample_id`` and ``subject``.

    Raises SourceError naming every line that cannot be used: an empty or repeated id, an empty subject, a name that
    could not be written in a forget list, two spellings of one name.
    """
    subjects, problems = read_table(path)
    refuse(path, problems + bad_names(subjects.values()))
    return subjects


def read_table(path: Path) -> tuple[dict[str, str], list[str]]:
    """Subject by sample id, and what is wrong with single lines. Raises SourceError when it is not such a table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(csv.DictReader(file, strict=True), path))
    except FileNotFoundError:
        raise SourceError(f"data.subjects: {path} is missing; put the table there, or set it to none") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); allow reading it") from error
    subjects: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems = []
    for line, sample_id, subject in rows:
        if sample_id in lines:
            problems.append(
                f"line {line}: {sample_id!r} is in line {lines[sample_id]} already; a sample is of one subject"
            )
        elif not sample_id:
            problems.append(f"line {line}: no sample_id")
        elif not subject:
            problems.append(f"line {line}: no subject; leave out the line of a sample without one")
        else:
            subjects[sample_id], lines[sample_id] = subject, line
    return subjects, problems


def _rows(reader: csv.DictReader[str], path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, sample id and subject of every row. Raises SourceError when the file is not such a table."""
    try:
        header = list(reader.fieldnames or ())
        if any(header.count(column) != 1 for column in COLUMNS):
            raise SourceError(f"{path}: expected a first line {','.join(COLUMNS)!r}, found {','.join(header)!r}")
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(
                    f"{path}, line {reader.line_num}: expected {len(header)} fields, as the first line has; put one "
                    "with a comma into double quotes"
                )
            yield reader.line_num, row["sample_id"], row["subject"]
    except csv.Error as error:
        raise SourceError(f"{path}: not CSV ({error}, after line {reader.line_num})") from error


def bad_names(subjects: Iterable[str]) -> list[str]:
    """Why subjects' names cannot be used, a sentence each; names that differ only in case are logged."""
    names = sorted(set(subjects) - {""})
    problems = [
        f"the subject {name!r} could not be written in a forget list (it holds ' #', a leading or trailing space, or "
        "an unprintable character); rename it"
        for name in names
        if " #" in name or name != name.strip() or not name.isprintable()
    ]
    for same in _alike(names, lambda name: unicodedata.normalize("NFC", name)):
        problems.append(
            f"{' and '.join(map(repr, same))} are one name in other Unicode characters; spell it in one way"
        )
    for same in _alike(names, str.casefold):
        logger.warning("%s are taken for different subjects", " and ".join(map(repr, same)))
    return problems


def _alike(names: Iterable[str], form: Callable[[str], str]) -> list[list[str]]:
    """Names, each different, that are the same in some form."""
    groups = defaultdict(list)
    for name in names:
        groups[form(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def refuse(where: Path, problems: list[str]) -> None:
    """Raise SourceError with the problems, if there are any."""
    if problems:
        more = [f"  … and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
        lines = [f"{where}: subjects cannot be told; nothing was changed", *(f"  {line}" for line in problems[:NAMED])]
        raise SourceError("\n".join(lines + more))
