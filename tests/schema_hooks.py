"""What schemathesis cannot read off /docs.json, as hooks of its own: .npy files and pictures (see test_schema.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from server import SIDE, encoded, npy

Case = schemathesis.Case[Any]
MAX_IMAGES = 3
IMAGES = arrays(np.uint8, st.tuples(st.integers(1, MAX_IMAGES), *map(st.just, (SIDE, SIDE, 3))))
PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))

schemathesis.openapi.media_type("application/x-npy", IMAGES.map(npy))
for kind in ("png", "jpeg", "webp"):
    pictures = st.lists(st.builds(encoded, PIXELS, st.just(kind)), min_size=1, max_size=MAX_IMAGES)
    # It takes what is registered for a part's media type as the whole field: here a list of files.
    schemathesis.openapi.media_type(f"image/{kind}", pictures)  # type: ignore[arg-type]


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: Case) -> bool:
    """Two modes that differ are refused, which OpenAPI has no words for."""
    modes = [part.get("mode") for part in (case.query, case.body) if isinstance(part, dict)]
    return len({mode for mode in modes if isinstance(mode, str)}) < 2


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: Case) -> Case:
    """7.0 is an integer in JSON Schema; the service asks for 7, as what writes integers writes them."""
    if case.path == "/v1/predict":
        case.body = without_fractions(case.body)
    return case


def without_fractions(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [without_fractions(each) for each in value]
        case dict():
            return {name: without_fractions(each) for name, each in value.items()}
    return value
