"""What is known of a shard's model: ``models/exports/block-B/shard-K.json``, beside ``shard-K.onnx``.

Whoever trains a shard writes it, whoever assembles or publishes reads it: reading needs neither torch
nor ONNX nor the checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    retained: int
    keys: tuple[str, ...]
    merkle_root: str
    sha256: str | None
    graph: str | None
    slices: tuple[SliceCost, ...]


def load_record(path: Path) -> ShardRecord:
    """Raises DamagedError when the record is missing or damaged."""
    return read_model(path, TypeAdapter(ShardRecord))
