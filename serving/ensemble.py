"""The shard ensemble: verified loading and aggregated predictions, with onnxruntime and numpy alone.

Letters: S shards that have a model, N pictures, H = W their side, C classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Aggregation = Literal["mean", "vote"]
Floats = NDArray[np.float32]


class EnsembleUnavailable(RuntimeError):
    """The published models cannot be loaded, so nothing may be served."""


def mean_probabilities(probabilities: Floats) -> Floats:
    """(S, N, C) probabilities of every shard to their (N, C) mean."""
    mean: Floats = probabilities.mean(axis=0, dtype=np.float32)
    return mean


def count_votes(probabilities: Floats) -> NDArray[np.int64]:
    """(S, N, C) probabilities to (N, C): how many shards find each class the most probable.

    Each shard has one vote; where it finds two classes equally probable, the first has it.
    """
    classes = probabilities.shape[-1]
    votes: NDArray[np.int64] = np.eye(classes, dtype=np.int64)[probabilities.argmax(axis=-1)].sum(axis=0)
    return votes


def choose(mean: Floats, votes: NDArray[np.int64], aggregation: Aggregation) -> NDArray[np.int64]:
    """(N,) labels from (N, C) mean probabilities and (N, C) votes.

    ``mean``: the class of highest mean probability. ``vote``: the class with most votes; of several
    with as many, the one of highest mean probability; of those, the first. (Bourtoule et al.,
    "Machine Unlearning", IEEE S&P 2021, section IV-E, names both; the tie rule is ours.)
    """
    scores = mean if aggregation == "mean" else np.where(votes == votes.max(axis=1, keepdims=True), mean, -1)
    labels: NDArray[np.int64] = scores.argmax(axis=1)
    return labels


@dataclass(frozen=True)
class Manifest:
    """``models/ensemble.json``: what may be served.

    ``document`` is the whole of it; the fields are what prediction needs.
    """

    document: dict[str, Any]
    generation: int
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    aggregation: Aggregation
    shard_ids: tuple[int, ...]


class Ensemble:
    """Every shard's model, opened once.

    Sessions run with one thread each, side by side in one pool: S sessions with a thread pool of
    their own would spin against each other.
    """

    def __init__(self, manifest: Manifest, sessions: Sequence[onnxruntime.InferenceSession], threads: int) -> None:
        self.manifest = manifest
        self._sessions = tuple(sessions)
        self._pool = ThreadPoolExecutor(threads, "shard")

    def shard_probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """(N, H, W, 3) uint8 to (S, N, C), in the order of ``manifest.shard_ids``."""
        runs = self._pool.map(lambda session: session.run(None, {"images": images})[0], self._sessions)
        return np.stack(list(runs))


def load_ensemble(models: Path, threads: int, providers: Sequence[str] = ("CPUExecutionProvider",)) -> Ensemble:
    """Open what ``models/ensemble.json`` lists, each file checked against its sha256.

    Raises EnsembleUnavailable when the manifest or a model is missing, damaged or not the one listed,
    or when onnxruntime lacks the first of ``providers``.
    """
    manifest = read_manifest(models / "ensemble.json")
    listed = [shard for shard in manifest.document["shards"] if shard["file"] is not None]
    sessions = [open_session(models / shard["file"], shard["sha256"], manifest, providers) for shard in listed]
    return Ensemble(manifest, sessions, threads)


def read_manifest(path: Path) -> Manifest:
    """Raises EnsembleUnavailable when the manifest is missing, not JSON or lacks something."""
    try:
        document = json.loads(path.read_bytes())
        manifest = Manifest(
            document=document,
            generation=int(document["generation"]),
            classes=tuple(document["classes"]),
            image_shape=tuple(document["image_shape"]),
            aggregation=document["aggregation"],
            shard_ids=tuple(shard["shard"] for shard in document["shards"] if shard["file"] is not None),
        )
    except FileNotFoundError:
        raise EnsembleUnavailable(f"{path} is missing; run `dvc repro` or `dvc pull`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnsembleUnavailable(f"{path} is not a manifest: {error!r}") from error
    if manifest.aggregation not in ("mean", "vote"):
        raise EnsembleUnavailable(f"{path}: aggregation is {manifest.aggregation!r}, not mean or vote")
    if not manifest.shard_ids:
        raise EnsembleUnavailable(f"{path} lists no shard that has a model")
    return manifest


def open_session(path: Path, sha256: str, manifest: Manifest, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    """One shard's session. Raises EnsembleUnavailable when the file is not the one the manifest lists."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EnsembleUnavailable(f"{path} cannot be read ({error}); run `dvc repro` or `dvc pull`") from error
    if found != sha256:
        raise EnsembleUnavailable(f"{path} has sha256 {found}, the manifest lists {sha256}; run `dvc repro`")
    if providers[0] not in onnxruntime.get_available_providers():
        raise EnsembleUnavailable(f"onnxruntime has no {providers[0]}, only {onnxruntime.get_available_providers()}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # no pool per session, so nothing spins
    session = onnxruntime.InferenceSession(path, options, providers=list(providers))
    if session.get_providers()[0] != providers[0]:  # onnxruntime falls back with a warning only
        raise EnsembleUnavailable(f"{providers[0]} could not be started for {path}")
    if tuple(session.get_inputs()[0].shape[1:]) != manifest.image_shape:
        raise EnsembleUnavailable(f"{path} takes {session.get_inputs()[0].shape[1:]}, not {manifest.image_shape}")
    return session
