"""What later stages need to know of a partition beside its shards: ``data/partition.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from training.files import read_model
from training.params import Params


class Lists(BaseModel):
    """The forget lists: ids and subjects listed, those of them gone from the source, SHA-256 of all of them, sorted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int = Field(ge=0)
    already_gone: int = Field(ge=0)
    sha256: str


class Poisoned(BaseModel):
    """How many samples were poisoned, and on how many of them each shard is still trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    planted: int = Field(ge=0)
    retained: tuple[int, ...]


class Placement(BaseModel):
    """What decides slots, beside ids and subjects' names: the parameters of these names, ``shards`` by their number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    shards: int
    slices: int
    subjects: str
    key_digest: str | None


class Summary(BaseModel):
    """``retained``, by shard, ``by_class``, by class: samples that are trained on. ``image_shape``: (H, W, 3).

    ``forgotten``: the lists where they are applied, ``monitored``: where they are not; the other one is empty.
    ``placement`` is None and ``by_class`` empty where an earlier version partitioned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    classes: tuple[str, ...] = Field(min_length=2)
    image_shape: tuple[int, int, Literal[3]]
    retained: tuple[int, ...]
    by_class: tuple[int, ...] = ()
    forgotten: Lists
    monitored: Lists
    poisoned: Poisoned
    placement: Placement | None = None


def placement(params: Params) -> Placement:
    """By which samples are placed today."""
    digest = params.data.placement_key_digest
    return Placement(
        seed=params.seed,
        shards=len(params.sisa.shards),
        slices=params.sisa.slices,
        subjects=params.data.subjects,
        key_digest=None if digest == "none" else digest,
    )


def read_summary(path: Path) -> Summary:
    """Raises DamagedError when the file is missing or damaged."""
    return read_model(path, TypeAdapter(Summary))
