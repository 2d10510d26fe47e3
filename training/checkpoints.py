"""Checkpoints: ``models/checkpoints/shard-K/slice-RR-KEY.safetensors``, one after each slice.

A checkpoint carries its key in its name and, in its metadata, the full key and a digest of
all it holds: a file that was cut short, altered or renamed is found out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.files import write_atomic
from training.paths import LOCKS_FOLDER

if TYPE_CHECKING:
    from torch import Tensor


class CheckpointError(Exception):
    """A checkpoint is missing or is not what its name says; train its slice again."""


def save_checkpoint(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, object]) -> None:
    """Write weights (on any device) and metadata, all or nothing; equal input gives equal bytes."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    record = {**metadata, "sha256": _digest(tensors, metadata)}
    # One entry: safetensors writes several in no fixed order.
    write_atomic(path, save(tensors, {"sisa": json.dumps(record, sort_keys=True)}))


def load_checkpoint(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of the checkpoint of ``key``.

    Raises CheckpointError when it is missing, damaged, or carries another key.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["sisa"])
            digest = record.pop("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if record.get("key") != key:
        raise CheckpointError(f"{path} carries the key {record.get('key')}, expected {key}")
    if digest != _digest(tensors, record):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest")
    return tensors, record


@contextmanager
def shard_lock(shard_id: int) -> Iterator[None]:
    """Hold a shard's checkpoints for this process; wait, saying for whom, while another holds them.

    The kernel lets go when the holder dies, however it dies. A killed ``dvc`` can leave its trainer
    running: this is what keeps a second one away from its files.
    """
    LOCKS_FOLDER.mkdir(parents=True, exist_ok=True)
    with (LOCKS_FOLDER / f"shard-{shard_id}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"shard {shard_id}: waiting for process {file.read().strip()}, which is training it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
