"""The generation that may answer now, without the models that were withdrawn.

Picked up when it is published, refused when it is not newer.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serving.ensemble.loading import Ensemble, Model, Provider, execution_providers, open_backbone, open_model
from serving.ensemble.manifest import EnsembleUnavailable, Manifest, Release, parse_manifest, read_manifest
from serving.state import Floor, Mark, Withdrawn, mark

logger = logging.getLogger("serving")

RETRY_SECONDS = 1.0  # a manifest that could not be loaded is not tried again for so long
MISSING_SECONDS = 1.0  # not every file system replaces a file in one step; one that is missing for longer is gone

Marks = tuple[Mark | None, ...]  # of the manifest, and of the lists of withdrawn models


@dataclass(frozen=True)
class Withdrawal:
    """What came of a request to withdraw: digests (hex SHA-256) that were not withdrawn before, and all there are.

    ``manifest``: what is published now, with all the models it lists; None when it cannot be read.
    """

    fresh: frozenset[str]
    withdrawn: frozenset[str]
    manifest: Manifest | None


class Generations:
    """Hands out the published ensemble without what was withdrawn, and never one older than what is published.

    Whoever answers asks ``current`` before it computes and ``is_current`` after; between the two
    everything comes from one immutable Ensemble. ``current`` opens only models that changed and may
    take seconds, so call it from a thread; ``loaded`` and ``is_current`` are one ``stat`` of the manifest
    and one of each list of withdrawn models.

    ``state``: the folder of what must be remembered. ``min_generation``: the least that may answer.
    Raises EnsembleUnavailable on construction when ``provider`` is not available.
    """

    def __init__(self, models: Path, state: Path, provider: Provider, threads: int, min_generation: int = 0) -> None:
        execution_providers(provider)
        self._models, self._provider = models, provider
        self._manifest = models / "ensemble.json"
        self._floor = Floor(state / "floor.json", min_generation)
        self._withdrawn = Withdrawn(state / "withdrawn.json", models / "withdrawn.json")
        self._pool, self._threads = ThreadPoolExecutor(threads, "shard"), threads
        self._lock = threading.Lock()
        self.floor = min_generation  # the highest that any worker had seen when this one last loaded
        self.withdrawn = 0  # models that may never answer again, when this worker last loaded
        self._loaded: tuple[Marks, Ensemble] | None = None
        self._failed: tuple[Marks, float, EnsembleUnavailable] | None = None
        self._missing: float | None = None  # since when a file is missing that was there

    @property
    def loaded(self) -> Ensemble | None:
        """What may answer at this moment, if it is loaded already."""
        loaded = self._loaded
        return loaded[1] if loaded is not None and loaded[0] == self._marks() else None

    def is_current(self, ensemble: Ensemble) -> bool:
        """Whether ``ensemble`` is what may answer at this moment."""
        return self.loaded is ensemble

    def current(self) -> Ensemble:
        """What is published now, without the models that were withdrawn.

        A manifest that was there a moment ago is waited for, and so is a list of withdrawn models.
        Raises EnsembleUnavailable when it is missing, damaged or older than what has been seen, or when it is not
        known what was withdrawn; the reason is logged whenever it changes.
        """
        if (ensemble := self.loaded) is not None:
            return ensemble
        with self._lock:
            while True:
                marks, loaded, failed = self._marks(), self._loaded, self._failed
                if loaded is not None and loaded[0] == marks:
                    return loaded[1]
                if failed is not None and failed[0] == marks and time.monotonic() - failed[1] < RETRY_SECONDS:
                    raise failed[2]
                if loaded is not None and self._is_being_replaced(marks, loaded[0]):
                    time.sleep(0.005)
                    continue
                try:
                    return self._load(marks, loaded)
                except (EnsembleUnavailable, OSError) as problem:
                    if marks != self._marks():  # replaced while it was loaded: the next one may do
                        continue
                    error = problem if isinstance(problem, EnsembleUnavailable) else EnsembleUnavailable(str(problem))
                    if failed is None or str(failed[2]) != str(error):
                        logger.error("not ready: %s", error)
                    self._failed = (marks, time.monotonic(), error)
                    raise error from problem

    def _is_being_replaced(self, marks: Marks, before: Marks) -> bool:
        """Whether a file is missing that was there, and has not been so for long."""
        if not any(now is None and then is not None for now, then in zip(marks, before, strict=True)):
            self._missing = None
            return False
        now = time.monotonic()
        self._missing = self._missing or now
        return now - self._missing < MISSING_SECONDS

    def withdraw(self, digests: Iterable[str]) -> Withdrawal:
        """Never again answer with these models (hex SHA-256 of their files). Holds for every worker when it returns.

        Raises EnsembleUnavailable or OSError when that cannot be kept in the state folder: then it does not hold.
        """
        fresh, withdrawn = self._withdrawn.add(digests)
        try:
            manifest = parse_manifest(read_manifest(self._manifest), self._manifest)
        except EnsembleUnavailable:
            manifest = None
        return Withdrawal(fresh, withdrawn, manifest)

    def _marks(self) -> Marks:
        return mark(self._manifest), *self._withdrawn.marks

    def _load(self, marks: Marks, loaded: tuple[Marks, Ensemble] | None) -> Ensemble:
        content = read_manifest(self._manifest)
        if marks[0] is None or marks[0] != mark(self._manifest):
            raise EnsembleUnavailable(f"{self._manifest} was replaced while it was read")
        manifest, digest = parse_manifest(content, self._manifest), hashlib.sha256(content).hexdigest()
        self.floor = max(manifest.generation, self._floor.lowest, self._floor.read()[0])
        self._floor.admit(manifest.generation, digest)
        withdrawn = self._withdrawn.read()  # after the marks were taken: what is added meanwhile changes them
        self.withdrawn = len(withdrawn)
        manifest = manifest.without(withdrawn)
        if loaded is not None and (loaded[1].digest, loaded[1].manifest) == (digest, manifest):
            ensemble = loaded[1]  # the same manifest, touched or copied, and none of its models withdrawn since
        else:
            ensemble = self._open(manifest, digest, loaded[1] if loaded else None)
        self._loaded, self._failed = (marks, ensemble), None
        return ensemble

    def _open(self, manifest: Manifest, digest: str, before: Ensemble | None) -> Ensemble:
        """Opens the models that ``before`` does not hold already, side by side."""
        opened: dict[str | None, Model] = {}
        backbone = None
        if before is not None and takes(before.manifest) == takes(manifest):
            backbone = before.backbone
            opened = {shard.sha256: model for shard, model in zip(before.manifest.voters, before.models, strict=True)}
        if backbone is None:
            backbone = open_backbone(self._models, manifest, self._provider, self._pool, self._threads)
        fresh = {shard.sha256: shard for shard in manifest.voters if shard.sha256 not in opened}
        models = self._pool.map(lambda shard: open_model(self._models, shard, manifest, self._provider), fresh.values())
        opened.update(zip(fresh, models, strict=True))
        ensemble = Ensemble(manifest, digest, [opened[shard.sha256] for shard in manifest.voters], self._pool, backbone)
        logger.info(
            "generation %d: %d of %d shards with samples answer, %d of them opened now; pending: %s",
            manifest.generation,
            ensemble.turnout.answered,
            ensemble.turnout.of,
            len(fresh),
            ", ".join(map(str, ensemble.turnout.pending)) or "none",
        )
        return ensemble


def takes(manifest: Release) -> tuple[object, ...]:
    """What every model of a release takes and answers: the images' shape, the backbone, and the number of classes."""
    backbone = manifest.backbone
    return manifest.image_shape, backbone and backbone.sha256, len(manifest.classes)
