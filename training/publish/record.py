"""What is known of a shard's model: ``models/exports/block-B/shard-K.json``, beside ``shard-K.onnx``.

Whoever trains a shard writes it, whoever assembles or publishes reads it: reading needs neither torch
nor ONNX nor the checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, TypeAdapter, model_serializer

from training.files import read_model


class SliceCost(BaseModel):
    """What training one slice took. ``samples``: of this slice and all before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    samples: int
    sample_epochs: int
    seconds: float
    device: str


class ShardRecord(BaseModel):
    """``sha256``: of the ONNX file, None for a shard that abstains. ``graph``: digest of what it was exported with.

    ``keys``: the shard's whole key chain. ``slices``: what each cost, empty for a shard that abstains.
    ``environments``: what the bits of its weights depend on beside the recipe, each once; one, unless it was trained
    partly elsewhere. Empty where an earlier version trained it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    retained: int
    keys: tuple[str, ...]
    merkle_root: str
    sha256: str | None
    graph: str | None
    slices: tuple[SliceCost, ...]
    environments: tuple[dict[str, str | int | None], ...] = ()

    @model_serializer(mode="wrap")
    def _without_what_is_not_known(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A ledger's line is spelt as it was before there was such a field."""
        document: dict[str, Any] = serialize(self)
        if not self.environments:
            del document["environments"]
        return document


def load_record(path: Path) -> ShardRecord:
    """Raises DamagedError when the record is missing or damaged."""
    return read_model(path, TypeAdapter(ShardRecord))
