"""Windows as people write them: ``12h``, ``1d``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {"h": "hours", "d": "days"}


def parse_window(text: str) -> timedelta:
    """Raises ValueError unless it is a whole number above 0 of hours or days."""
    match = re.fullmatch(r"([0-9]{1,5})([hd])", text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"expected hours or days, as 12h or 7d, found {text!r}")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
