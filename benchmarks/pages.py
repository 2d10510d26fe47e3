"""Pages of ``docs/results/`` that are written by a program, and by people below a line."""

from __future__ import annotations

from pathlib import Path

from training.errors import DrillError
from training.files import write_atomic


def line_of(module: str) -> str:
    """The line below which people write."""
    return f"<!-- Written by hand from here on: `python -m {module}` keeps it and writes what is above again. -->"


def write_page(path: Path, page: str, module: str) -> None:
    """Write ``page``; what people have written below the line of an earlier one is kept.

    Raises DrillError when the earlier page has lost the line.
    """
    line = line_of(module)
    write_atomic(path, f"{page}\n{line}\n{by_hand(path, line)}".encode())


def by_hand(path: Path, line: str) -> str:
    if not path.is_file():
        return ""
    _, found, text = path.read_text(encoding="utf-8").partition(f"{line}\n")
    if not found:
        raise DrillError(
            f"{path} has no line {line!r}, below which it would be kept; put the line in, or move the page away"
        )
    return text
