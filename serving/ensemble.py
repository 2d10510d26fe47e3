"""The shard ensemble: verified loading and aggregated predictions, with onnxruntime and numpy alone.

Letters: S shards that have a model, N pictures, H = W their side, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Aggregation = Literal["mean", "vote"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
Provider = Literal["auto", "cpu", "cuda"]
Floats = NDArray[np.float32]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


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


class ShardEntry(BaseModel):
    """One shard of the manifest; one that abstains (all its samples are forgotten) has no file."""

    model_config = ConfigDict(frozen=True)

    shard: int = Field(ge=0)
    retained: int = Field(ge=0)
    key: str
    abstains: bool
    file: str | None
    sha256: str | None


class Forgotten(BaseModel):
    """The forget lists: ids listed, those of them gone from the source, SHA-256 of the sorted ids."""

    model_config = ConfigDict(frozen=True)

    listed: int
    already_gone: int
    sha256: str


class Manifest(BaseModel):
    """``models/ensemble.json``: what may be served."""

    model_config = ConfigDict(frozen=True)

    generation: int = Field(ge=1)
    aggregation: Aggregation
    classes: tuple[str, ...] = Field(min_length=2)
    image_shape: tuple[int, int, Literal[3]]
    forgotten: Forgotten
    shards: tuple[ShardEntry, ...]

    @model_validator(mode="after")
    def _check_shards(self) -> Self:
        """A shard that was lost or counted twice would answer, and be certified, as if nothing were wrong."""
        if len({shard.shard for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is listed twice")
        for shard in self.shards:
            if shard.abstains != (shard.file is None):
                raise ValueError(f"shard {shard.shard} must either abstain or have a file")
        return self

    @property
    def voters(self) -> tuple[ShardEntry, ...]:
        """The shards that have a model."""
        return tuple(shard for shard in self.shards if shard.file is not None)

    @property
    def shard_ids(self) -> tuple[int, ...]:
        return tuple(shard.shard for shard in self.voters)


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Raises EnsembleUnavailable when ``content`` (of ``path``) is not JSON or lacks something."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EnsembleUnavailable(
            f"{path} is not a manifest: {where + ': ' if where else ''}{problem['msg']}"
        ) from None
    if not manifest.voters:
        raise EnsembleUnavailable(f"{path} lists no shard that has a model")
    return manifest


class Ensemble:
    """The models of one manifest, opened. Never changed after it is made.

    Sessions run with one thread each, side by side in one pool: S sessions with a thread pool of
    their own would spin against each other.
    """

    def __init__(
        self, manifest: Manifest, digest: str, sessions: Sequence[onnxruntime.InferenceSession], pool: Executor
    ) -> None:
        self.manifest = manifest
        self.digest = digest  # SHA-256 of the manifest's file
        self.sessions = tuple(sessions)
        self._pool = pool

    def shard_probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """(N, H, W, 3) uint8 to (S, N, C), in the order of ``manifest.shard_ids``."""
        runs = self._pool.map(lambda session: session.run(None, {"images": images})[0], self.sessions)
        return np.stack(list(runs))


def load_ensemble(models: Path, threads: int, provider: Provider = "cpu") -> Ensemble:
    """Open what ``models/ensemble.json`` lists, each file checked against its sha256.

    Raises EnsembleUnavailable when the manifest or a model is missing, damaged or not the one listed,
    or when onnxruntime lacks the provider.
    """
    path = models / "ensemble.json"
    content = read_manifest(path)
    manifest = parse_manifest(content, path)
    sessions = [open_session(models, shard, manifest, provider) for shard in manifest.voters]
    return Ensemble(manifest, hashlib.sha256(content).hexdigest(), sessions, ThreadPoolExecutor(threads, "shard"))


def read_manifest(path: Path) -> bytes:
    """Raises EnsembleUnavailable when the manifest cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise EnsembleUnavailable(f"{path} is missing; run `dvc repro` or `dvc pull`") from None
    except OSError as error:
        raise EnsembleUnavailable(f"{path} cannot be read: {error}") from error


def execution_providers(provider: Provider) -> list[str]:
    """onnxruntime's names, best first.

    Raises EnsembleUnavailable when ``cuda`` is asked for and this onnxruntime was built without it.
    """
    available = onnxruntime.get_available_providers()
    if provider == "cuda" and CUDA not in available:
        raise EnsembleUnavailable(
            f"provider cuda was asked for, but this onnxruntime has only {', '.join(available)}; "
            "install onnxruntime-gpu (EXTRA=gpu) or set provider: cpu"
        )
    if provider == "cpu" or CUDA not in available:
        return [CPU]
    onnxruntime.preload_dlls()  # CUDA's libraries as Python packages, where they are installed as such
    return [CUDA, CPU]


def open_session(
    models: Path, shard: ShardEntry, manifest: Manifest, provider: Provider
) -> onnxruntime.InferenceSession:
    """One shard's session. Raises EnsembleUnavailable when its file is not the one the manifest lists."""
    providers = execution_providers(provider)
    assert shard.file is not None
    path = models / shard.file
    try:
        before = path.stat()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EnsembleUnavailable(f"{path} cannot be read ({error}); run `dvc repro` or `dvc pull`") from error
    if found != shard.sha256:
        raise EnsembleUnavailable(f"{path} has sha256 {found}, the manifest lists {shard.sha256}; run `dvc repro`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # no pool per session, so nothing spins
    try:
        # By path: bytes would stay in memory beside the session's own copy.
        session = onnxruntime.InferenceSession(path, options, providers=providers)
        after = path.stat()
        images, probabilities = session.get_inputs()[0], session.get_outputs()[0]
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise EnsembleUnavailable(f"{path} cannot be opened: {error}") from error
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        raise EnsembleUnavailable(f"{path} was replaced while it was opened")
    if provider == "cuda" and session.get_providers()[0] != CUDA:  # onnxruntime falls back with a warning only
        raise EnsembleUnavailable(f"CUDA could not be started for {path}; see onnxruntime's message above")
    if (images.type, tuple(images.shape[1:])) != ("tensor(uint8)", manifest.image_shape):
        raise EnsembleUnavailable(f"{path} takes {images.type} {images.shape}, not uint8 {manifest.image_shape}")
    if probabilities.shape[1:] != [len(manifest.classes)]:
        raise EnsembleUnavailable(f"{path} answers {probabilities.shape}, not {len(manifest.classes)} classes")
    return session
