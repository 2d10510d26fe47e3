"""Verified loading of a release: every model is the one that is listed, or nothing is served."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.ensemble.aggregation import Floats
from serving.ensemble.manifest import (
    EnsembleUnavailable,
    Manifest,
    Release,
    ShardEntry,
    parse_manifest,
    read_manifest,
)
from serving.ensemble.turnout import turnout

Provider = Literal["auto", "cpu", "cuda"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Ensemble:
    """The models of one release, opened. Never changed after it is made.

    ``digest``: SHA-256 of the file that the release was read from, in hex; empty where there is none.
    Sessions run with one thread each, side by side in one pool: S sessions with a thread pool of
    their own would spin against each other.
    """

    def __init__(
        self, manifest: Release, digest: str, sessions: Sequence[onnxruntime.InferenceSession], pool: Executor
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.sessions = tuple(sessions)
        self.turnout = turnout(manifest)
        self._pool = pool

    @property
    def generation(self) -> int:
        """That of the manifest, from 1; 0 for a release that is not published."""
        return self.manifest.generation if isinstance(self.manifest, Manifest) else 0

    def shard_probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """(N, H, W, 3) uint8 to (S, N, C), in the order of ``manifest.shard_ids``."""
        runs = self._pool.map(lambda session: session.run(None, {"images": images})[0], self.sessions)
        return np.stack(list(runs))


def load_ensemble(models: Path, threads: int, provider: Provider = "cpu") -> Ensemble:
    """Open what ``models/ensemble.json`` lists.

    Raises EnsembleUnavailable when the manifest is missing or damaged, and like ``open_ensemble``.
    """
    path = models / "ensemble.json"
    content = read_manifest(path)
    return open_ensemble(parse_manifest(content, path), models, threads, provider, hashlib.sha256(content).hexdigest())


def open_ensemble(
    manifest: Release, folder: Path, threads: int, provider: Provider = "cpu", digest: str = ""
) -> Ensemble:
    """Open every model of a release; its files are relative to ``folder``, each is checked against its sha256.

    ``threads``: shards that run side by side. Raises EnsembleUnavailable when a model is missing, damaged or
    not the one listed, or when onnxruntime lacks the provider.
    """
    sessions = [open_session(folder, shard, manifest, provider) for shard in manifest.voters]
    return Ensemble(manifest, digest, sessions, ThreadPoolExecutor(threads, "shard"))


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
    folder: Path, shard: ShardEntry, manifest: Release, provider: Provider
) -> onnxruntime.InferenceSession:
    """One shard's session, of its file in ``folder``. Raises EnsembleUnavailable when that is not the one listed."""
    providers = execution_providers(provider)
    assert shard.file is not None
    path = folder / shard.file
    try:
        before = path.stat()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EnsembleUnavailable(f"{path} cannot be read ({error}); run `sisa publish`") from error
    if found != shard.sha256:
        raise EnsembleUnavailable(f"{path} has sha256 {found}, the manifest lists {shard.sha256}; run `sisa publish`")
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
