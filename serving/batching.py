"""Micro-batches: whatever waits while one batch is computed is the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import Floats, count_votes, mean_probabilities
from serving.ensemble.loading import Ensemble


@dataclass(frozen=True)
class Scores:
    """What an ensemble finds in N images: mean probabilities (N, C) and votes (N, C)."""

    mean: Floats
    votes: NDArray[np.int64]


@dataclass(frozen=True)
class _Job:
    client: str
    ensemble: Ensemble
    images: NDArray[np.uint8]
    scores: asyncio.Future[Scores]


class Batcher:
    """Computes requests that wait at the same time together, one batch after the other.

    Clients take turns: however much one has waiting, another's request is in the next batch or the one after it. A
    batch is of one ensemble, so no answer mixes generations. ``max_batch``: pictures computed together, which bounds
    memory. ``observe`` is told the size of each batch.
    """

    def __init__(self, max_batch: int, observe: Callable[[int], None]) -> None:
        self._max_batch, self._observe = max_batch, observe
        self._waiting: dict[str, deque[_Job]] = {}  # by client, whose turn is next first
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "batch")
        self._tasks: set[asyncio.Task[None]] = set()

    async def scores(self, ensemble: Ensemble, images: NDArray[np.uint8], client: str = "") -> Scores:
        """Scores of (N, H, W, 3) pictures, N ≥ 1, of the side that ``ensemble`` takes."""
        loop = asyncio.get_running_loop()
        job = _Job(client, ensemble, images, loop.create_future())
        self._waiting.setdefault(client, deque()).append(job)
        if not self._busy:
            self._busy = True
            task = loop.create_task(self._work())
            self._tasks.add(task)  # the loop itself keeps only a weak reference
            task.add_done_callback(self._tasks.discard)
        return await job.scores

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while jobs := self._next():
                try:
                    parts = await loop.run_in_executor(self._thread, self._compute, jobs)
                except Exception as error:
                    if len(jobs) == 1:
                        _fail(jobs[0], error)
                    else:  # one request may be at fault, so each is computed alone
                        for job in jobs:
                            await self._alone(job)
                    continue
                for job, scores in zip(jobs, parts, strict=True):
                    if not job.scores.done():
                        job.scores.set_result(scores)
        finally:
            self._busy = False

    def _next(self) -> list[_Job]:
        """Each client's oldest job in turn, as long as they fit into the first one's batch; none that was cancelled."""
        jobs: list[_Job] = []
        size = 0
        while self._waiting:
            client, queue = next(iter(self._waiting.items()))
            job = queue[0]
            fits = not jobs or (job.ensemble is jobs[0].ensemble and size + len(job.images) <= self._max_batch)
            if not job.scores.done() and not fits:
                break
            queue.popleft()
            del self._waiting[client]
            if queue:
                self._waiting[client] = queue  # behind the others
            if not job.scores.done():
                jobs.append(job)
                size += len(job.images)
        return jobs

    async def _alone(self, job: _Job) -> None:
        try:
            (scores,) = await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, [job])
        except Exception as error:
            _fail(job, error)
        else:
            if not job.scores.done():
                job.scores.set_result(scores)

    def _compute(self, jobs: list[_Job]) -> list[Scores]:
        images = jobs[0].images if len(jobs) == 1 else np.concatenate([job.images for job in jobs])
        means, votes = [], []
        for start in range(0, len(images), self._max_batch):
            batch = images[start : start + self._max_batch]
            self._observe(len(batch))
            by_shard = jobs[0].ensemble.shard_probabilities(batch)
            means.append(mean_probabilities(by_shard))
            votes.append(count_votes(by_shard))
        stops = np.cumsum([len(job.images) for job in jobs])[:-1]
        return [
            Scores(mean, vote)
            for mean, vote in zip(
                np.split(np.concatenate(means), stops), np.split(np.concatenate(votes), stops), strict=True
            )
        ]


def _fail(job: _Job, error: Exception) -> None:
    if not job.scores.done():
        job.scores.set_exception(error)
