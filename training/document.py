"""params.yaml as DVC reads it, before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from training.errors import ParamsError


def read_document(path: Path) -> dict[str, Any]:
    """What ``path`` holds, read as DVC reads it: YAML 1.2, in which 010 is ten and yes is text.

    Raises ParamsError when it cannot be read, or holds a value that DVC does not take.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        foreign = [f"  {key}: DVC takes no {type(value).__name__}, found {value}" for key, value in _foreign(document)]
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; copy one from profiles/") from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read ({error.strerror})") from None
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ParamsError(f"{path} is not valid YAML: {line}{error.problem}") from None
    except (YAMLError, ValueError) as error:  # a ValueError: not UTF-8, or a date that is not in the calendar
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    except RecursionError:
        raise ParamsError(f"{path} holds lists or sections within each other without an end") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{path} must hold sections of keys, found {type(document).__name__}")
    if foreign:
        raise ParamsError("\n".join([f"{path}: values that must be put into quotes", *foreign]))
    return document


def _foreign(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Key and value of what is neither text, a number, true, false, null, a list nor a section: a date, say."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _foreign(part, f"{key}.{name}" if key else str(name))
    elif value is not None and not isinstance(value, str | int | float):
        yield key, value
