"""What is wrong with a document that was validated, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError


def in_words(path: Path | str, error: ValidationError, model: type[BaseModel]) -> str:
    """A line for each key that is misspelled, missing or out of range in ``path``, a document of ``model``."""
    count = error.error_count()
    lines = [f"{path}: {count} invalid parameter{'s' if count > 1 else ''}"]
    for problem in error.errors():
        loc, section = _without_tags(problem["loc"], model)
        key = ".".join(str(part) for part in loc)
        if problem["type"] == "missing":
            lines.append(f"  {key}: missing; it must be given")
        elif problem["type"] == "extra_forbidden":
            allowed = ", ".join(section.model_fields)
            lines.append(f"  {key}: no such key (misspelt?); allowed here: {allowed}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            found = "" if isinstance(problem["input"], dict) else f", found {problem['input']!r}"
            lines.append(f"  {key + ': ' if key else ''}{reason[0].lower()}{reason[1:]}{found}")
    return "\n".join(lines)


def _without_tags(
    loc: tuple[int | str, ...], section: type[BaseModel]
) -> tuple[tuple[int | str, ...], type[BaseModel]]:
    """Where ``loc`` is in a document of ``section``, and the section that it lies in.

    Of a section that may be one of several kinds pydantic names the kind as well, which no document does.
    """
    place: list[int | str] = []
    kinds: dict[str, type[BaseModel]] = {}
    for part in loc:
        if str(part) in kinds:
            section, kinds = kinds[str(part)], {}
            continue
        place.append(part)
        field = section.model_fields.get(str(part))
        if field is None:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and part != loc[-1]:
            section = field.annotation
        kinds = {
            kind.__metadata__[0].tag: kind.__origin__
            for kind in get_args(field.annotation)
            if get_origin(kind) is Annotated and isinstance(kind.__metadata__[0], Tag)
        }
    return tuple(place), section
