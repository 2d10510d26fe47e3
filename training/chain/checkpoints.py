"""Checkpoints: ``models/checkpoints/block-B/shard-K/slice-RR-KEY.safetensors``, one after each slice.

A checkpoint carries its key in its name and, in its metadata, a record: the full key, what its
training cost, where it was made, and digests of all it holds. A file that was cut short, altered or
renamed is detected. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from training.files import write_atomic

Arrays = Mapping[str, NDArray[Any]]


class CheckpointError(Exception):
    """A checkpoint is missing or is not what its name says; its slice has to be trained again."""


class Record(BaseModel):
    """``samples``: of slices 0..``slice_id`` together. ``losses``: mean of each epoch.

    ``environment``: what the bits depend on beside the recipe. ``seconds``: of training this slice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    recipe: str
    shard: int
    slice_id: int
    samples: int
    sample_epochs: int
    losses: tuple[float, ...]
    environment: Mapping[str, str | int | None]
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """``content``: hex SHA-256 of weights and record but for the seconds: the same for the same training."""

    weights: Arrays
    record: Record
    content: str


def save_checkpoint(path: Path, weights: Arrays, record: Record) -> None:
    """Write weights and record, all or nothing; equal input gives equal bytes."""
    from safetensors.numpy import save

    tensors = {name: np.asarray(array, order="C") for name, array in weights.items()}
    document = {"record": record.model_dump(), "content": content_digest(tensors, record)}
    document["sha256"] = _sealed(document)
    # One entry: safetensors writes several in no fixed order.
    write_atomic(path, save(tensors, {"sisa": json.dumps(document, sort_keys=True)}))


def load_checkpoint(path: Path, key: str) -> Checkpoint:
    """The checkpoint of ``key``, every byte of it checked.

    Raises CheckpointError when it is missing, damaged, or carries another key.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            document = json.loads((file.metadata() or {})["sisa"])
            sealed = document.pop("sha256")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        record, content = Record.model_validate(document["record"]), document["content"]
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, ValidationError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if sealed != _sealed(document) or content != content_digest(weights, record):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest")
    if record.key != key:
        raise CheckpointError(f"{path} carries the key {record.key}, expected {key}")
    return Checkpoint(weights, record, content)


def content_digest(weights: Arrays, record: Record) -> str:
    """What two trainings of the same recipe on the same samples have in common, on machines alike."""
    digest = hashlib.sha256(json.dumps(record.model_dump(exclude={"seconds"}), sort_keys=True).encode())
    for name in sorted(weights):
        array = weights[name]
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _sealed(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def stale_slices(chain: Sequence[Path]) -> list[int]:
    """Slices whose checkpoint is not there, by name; the trainer looks inside as well."""
    return [slice_id for slice_id, path in enumerate(chain) if not path.is_file()]
