"""What the sections of params.yaml have in common: frozen, no key but those declared, numbers written as numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    if isinstance(value, str):
        raise ValueError("expected a number, not text")
    return value


def _whole(value: object) -> object:
    # DVC would name a trainer after the shard 1.0.
    if isinstance(value, float):
        raise ValueError("expected a whole number, written without a point")
    return _number(value)


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_whole)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
