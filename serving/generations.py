"""The generation that may answer now: picked up when it is published, refused when it is not newer."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from serving.ensemble.loading import Ensemble, Provider, execution_providers, open_session
from serving.ensemble.manifest import EnsembleUnavailable, Manifest, Release, parse_manifest, read_manifest

logger = logging.getLogger("serving")

RETRY_SECONDS = 1.0  # a manifest that could not be loaded is not tried again for so long

# What tells one published file from another. The inode's change time is among it, since renaming an
# old file back keeps all the rest.
Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class Floor:
    """The highest generation seen, in a file, so that it survives restarts and is common to all workers."""

    path: Path

    def read(self) -> tuple[int, str | None]:
        """(generation, digest of its manifest); (0, None) before the first.

        Raises EnsembleUnavailable when the file is damaged.
        """
        try:
            document = json.loads(self.path.read_bytes())
            return int(document["generation"]), str(document["manifest_sha256"])
        except FileNotFoundError:
            return 0, None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnsembleUnavailable(
                f"{self.path}, the highest generation seen, cannot be read ({error!r}); "
                "delete it if what is published now is what should be served"
            ) from error

    def admit(self, generation: int, digest: str) -> None:
        """Raise the floor to ``generation``.

        Raises EnsembleUnavailable when a higher one was seen, or this one with another manifest.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            highest, known = self.read()
            advice = f"publish a newer one, or delete {self.path} to go back on purpose"
            if generation < highest:
                raise EnsembleUnavailable(
                    f"generation {generation} is published, but {highest} has been seen; serving the older one "
                    f"could answer from what was forgotten since. {advice}"
                )
            if generation == highest and digest != known:
                raise EnsembleUnavailable(
                    f"generation {generation} is published with another manifest than the one seen. {advice}"
                )
            if generation > highest:
                self._write({"generation": generation, "manifest_sha256": digest})

    def _write(self, document: dict[str, object]) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".floor.", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink()  # a full disk would get one more each time it is tried again
            raise


class Generations:
    """Hands out the published ensemble, and never one older than what is published.

    Whoever answers asks ``current`` before it computes and ``is_current`` after; between the two
    everything comes from one immutable Ensemble. ``current`` opens only models that changed and may
    take seconds, so call it from a thread; ``loaded`` and ``is_current`` are one ``stat``.

    Raises EnsembleUnavailable on construction when ``provider`` is not available.
    """

    def __init__(self, models: Path, floor: Path, provider: Provider, threads: int) -> None:
        execution_providers(provider)
        self._models, self._provider = models, provider
        self._manifest = models / "ensemble.json"
        self._floor = Floor(floor)
        self._pool = ThreadPoolExecutor(threads, "shard")
        self._lock = threading.Lock()
        self.newest_seen = 0  # by any worker, when this one last loaded; 0 before it has
        self._loaded: tuple[Mark, Ensemble] | None = None
        self._failed: tuple[Mark | None, float, EnsembleUnavailable] | None = None

    @property
    def loaded(self) -> Ensemble | None:
        """What is published at this moment, if it is loaded already."""
        loaded = self._loaded
        return loaded[1] if loaded is not None and loaded[0] == self._mark() else None

    def is_current(self, ensemble: Ensemble) -> bool:
        """Whether ``ensemble`` is what is published at this moment."""
        return self.loaded is ensemble

    def current(self) -> Ensemble:
        """What is published now.

        Raises EnsembleUnavailable when that is missing, damaged or older than what has been seen; the
        reason is logged whenever it changes.
        """
        if (ensemble := self.loaded) is not None:
            return ensemble
        with self._lock:
            while True:
                mark, loaded, failed = self._mark(), self._loaded, self._failed
                if loaded is not None and loaded[0] == mark:
                    return loaded[1]
                if failed is not None and failed[0] == mark and time.monotonic() - failed[1] < RETRY_SECONDS:
                    raise failed[2]
                try:
                    return self._load(mark, loaded)
                except (EnsembleUnavailable, OSError) as problem:
                    if mark != self._mark():  # replaced while it was loaded: the next one may do
                        continue
                    error = problem if isinstance(problem, EnsembleUnavailable) else EnsembleUnavailable(str(problem))
                    if failed is None or str(failed[2]) != str(error):
                        logger.error("not ready: %s", error)
                    self._failed = (mark, time.monotonic(), error)
                    raise error from problem

    def _mark(self) -> Mark | None:
        try:
            status = self._manifest.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size

    def _load(self, mark: Mark | None, loaded: tuple[Mark, Ensemble] | None) -> Ensemble:
        content = read_manifest(self._manifest)
        if mark is None or mark != self._mark():
            raise EnsembleUnavailable(f"{self._manifest} was replaced while it was read")
        manifest, digest = parse_manifest(content, self._manifest), hashlib.sha256(content).hexdigest()
        self.newest_seen = max(manifest.generation, self._floor.read()[0])
        self._floor.admit(manifest.generation, digest)
        if loaded is not None and loaded[1].digest == digest:  # the same manifest, touched or copied
            ensemble = loaded[1]
        else:
            ensemble = self._open(manifest, digest, loaded[1] if loaded else None)
        self._loaded, self._failed = (mark, ensemble), None
        return ensemble

    def _open(self, manifest: Manifest, digest: str, before: Ensemble | None) -> Ensemble:
        """Opens the models that ``before`` does not hold already, side by side."""
        opened = {}
        if before is not None and shapes(before.manifest) == shapes(manifest):
            opened = {
                shard.sha256: session for shard, session in zip(before.manifest.voters, before.sessions, strict=True)
            }
        fresh = {shard.sha256: shard for shard in manifest.voters if shard.sha256 not in opened}
        sessions = self._pool.map(
            lambda shard: open_session(self._models, shard, manifest, self._provider), fresh.values()
        )
        opened.update(zip(fresh, sessions, strict=True))
        ensemble = Ensemble(manifest, digest, [opened[shard.sha256] for shard in manifest.voters], self._pool)
        logger.info(
            "generation %d: %d shards answer, %d of them opened now, %d abstain",
            manifest.generation,
            len(manifest.voters),
            len(fresh),
            len(manifest.shards) - len(manifest.voters),
        )
        return ensemble


def shapes(manifest: Release) -> tuple[tuple[int, ...], int]:
    """What every model of a release takes and answers: (H, W, 3) and the number of classes."""
    return manifest.image_shape, len(manifest.classes)
