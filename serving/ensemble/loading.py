"""Verified loading of a release: every model is the one that is listed, or nothing is served."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.ensemble.aggregation import Floats
from serving.ensemble.backbone import Backbone, Features, check_backbone
from serving.ensemble.heads import Head, Heads, read_head
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
Model: TypeAlias = onnxruntime.InferenceSession | Head  # of a shard

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Ensemble:
    """The models of one release, opened. Never changed after it is made.

    ``digest``: SHA-256 of the file that the release was read from, in hex; empty where there is none. ``models``: one
    a shard, in the order of ``manifest.shard_ids``. Sessions run with one thread each, side by side in one pool: S
    sessions with a thread pool of their own would spin against each other.
    """

    def __init__(
        self,
        manifest: Release,
        digest: str,
        models: Sequence[Model],
        pool: Executor,
        backbone: Backbone | None = None,
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.models = tuple(models)
        self.backbone = backbone
        self.turnout = turnout(manifest)
        self._pool = pool
        heads = [model for model in models if isinstance(model, Head)]
        self._heads = Heads(heads) if heads else None

    @property
    def generation(self) -> int:
        """That of the manifest, from 1; 0 for a release that is not published."""
        return self.manifest.generation if isinstance(self.manifest, Manifest) else 0

    @property
    def provider(self) -> str | None:
        """onnxruntime's name of what computes; None where no model is left."""
        session = self.backbone.session if self.backbone else next(iter(self.sessions), None)
        return session.get_providers()[0] if session else None

    @property
    def sessions(self) -> tuple[onnxruntime.InferenceSession, ...]:
        """The models that take images themselves."""
        return tuple(model for model in self.models if not isinstance(model, Head))

    def shard_probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """(N, H, W, 3) uint8 to (S, N, C), in the order of ``manifest.shard_ids``."""
        if self.backbone is not None:
            return self.head_probabilities(self.backbone.features(images))
        runs = self._pool.map(lambda session: session.run(None, {"images": images})[0], self.sessions)
        return np.stack(list(runs))

    def head_probabilities(self, features: Features) -> Floats:
        """(N, D) features of the backbone to (S, N, C). Raises ValueError where models take images."""
        if self._heads is None:
            raise ValueError("these models take images, not features")
        return self._heads.probabilities(features)


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
    pool = ThreadPoolExecutor(threads, "shard")
    backbone = open_backbone(folder, manifest, provider, pool, threads)
    models = list(pool.map(lambda shard: open_model(folder, shard, manifest, provider), manifest.voters))
    return Ensemble(manifest, digest, models, pool, backbone)


def open_backbone(folder: Path, manifest: Release, provider: Provider, pool: Executor, threads: int) -> Backbone | None:
    """The release's backbone, where it has one. Raises EnsembleUnavailable when it is not the one listed."""
    entry = manifest.backbone
    if entry is None:
        return None
    path = folder / entry.file
    session = verified_session(path, entry.sha256, provider)
    check_backbone(session, manifest.image_shape, str(path))
    backbone = Backbone(session, pool, threads)
    if backbone.width != entry.features:
        raise EnsembleUnavailable(f"{path} answers {backbone.width} features, the manifest lists {entry.features}")
    return backbone


def open_model(folder: Path, shard: ShardEntry, manifest: Release, provider: Provider) -> Model:
    """One shard's model. Raises EnsembleUnavailable as ``open_session`` does."""
    session = open_session(folder, shard, manifest, provider)
    return session if manifest.backbone is None else read_head(session)


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
    assert shard.file is not None
    path, backbone = folder / shard.file, manifest.backbone
    session = verified_session(path, shard.sha256, provider if backbone is None else "cpu")
    found, answers = session.get_inputs()[0], session.get_outputs()[0]
    kind, shape = ("uint8", manifest.image_shape) if backbone is None else ("float", (backbone.features,))
    if (found.type, tuple(found.shape[1:])) != (f"tensor({kind})", shape):
        raise EnsembleUnavailable(f"{path} takes {found.type} {found.shape}, not {kind} {shape}")
    if answers.shape[1:] != [len(manifest.classes)]:
        raise EnsembleUnavailable(f"{path} answers {answers.shape}, not {len(manifest.classes)} classes")
    return session


def verified_session(path: Path, sha256: str | None, provider: Provider) -> onnxruntime.InferenceSession:
    """A session with one thread. Raises EnsembleUnavailable when the file is not the one of this digest."""
    providers = execution_providers(provider)
    try:
        before = path.stat()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EnsembleUnavailable(f"{path} cannot be read ({error}); run `sisa publish`") from error
    if found != sha256:
        raise EnsembleUnavailable(f"{path} has sha256 {found}, the manifest lists {sha256}; run `sisa publish`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # no pool per session, so nothing spins
    try:
        # By path: bytes would stay in memory beside the session's own copy.
        session = onnxruntime.InferenceSession(path, options, providers=providers)
        after = path.stat()
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise EnsembleUnavailable(f"{path} cannot be opened: {error}") from error
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        raise EnsembleUnavailable(f"{path} was replaced while it was opened")
    if provider == "cuda" and session.get_providers()[0] != CUDA:  # onnxruntime falls back with a warning only
        raise EnsembleUnavailable(f"CUDA could not be started for {path}; see onnxruntime's message above")
    return session
