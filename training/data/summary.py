"""What later stages need to know of a partition beside its shards: ``data/partition.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from training.files import read_model


class Lists(BaseModel):
    """The forget lists: ids listed, those of them gone from the source, SHA-256 of the sorted ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int = Field(ge=0)
    already_gone: int = Field(ge=0)
    sha256: str


class Poisoned(BaseModel):
    """How many samples were poisoned, and on how many of them each shard is still trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    planted: int = Field(ge=0)
    retained: tuple[int, ...]


class Summary(BaseModel):
    """``retained``, by shard: samples that are trained on. ``image_shape``: (H, W, 3).

    ``forgotten``: the lists where they are applied, ``monitored``: where they are not; the other one is empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    classes: tuple[str, ...] = Field(min_length=2)
    image_shape: tuple[int, int, Literal[3]]
    retained: tuple[int, ...]
    forgotten: Lists
    monitored: Lists
    poisoned: Poisoned


def read_summary(path: Path) -> Summary:
    """Raises DamagedError when the file is missing or damaged."""
    return read_model(path, TypeAdapter(Summary))
