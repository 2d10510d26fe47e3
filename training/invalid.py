"""What is wrong with a document that was validated, in words."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError


def in_words(path: Path | str, error: ValidationError, model: type[BaseModel]) -> str:
    """A line for each key that is misspelled, missing or out of range in ``path``, a document of ``model``."""
    count = error.error_count()
    lines = [f"{path}: {count} invalid parameter{'s' if count > 1 else ''}"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            lines.append(f"  {key}: missing; it must be given")
        elif problem["type"] == "extra_forbidden":
            allowed = ", ".join(_keys_beside(problem["loc"], model))
            lines.append(f"  {key}: no such key (misspelt?); allowed here: {allowed}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            found = "" if isinstance(problem["input"], dict) else f", found {problem['input']!r}"
            lines.append(f"  {key}: {reason[0].lower()}{reason[1:]}{found}")
    return "\n".join(lines)


def _keys_beside(loc: tuple[int | str, ...], section: type[BaseModel]) -> list[str]:
    """The keys allowed where ``loc`` lies in a document of ``section``."""
    for part in loc[:-1]:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return list(section.model_fields)
