"""From a request to its answer: read, decode, compute, and send only what the published generation found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serving.api import confirm, describe, encode
from serving.batching import Batcher, Scores
from serving.decoders import Decoders
from serving.decoding import Images, Large, Shape, decode_withdrawal
from serving.ensemble.aggregation import Aggregation
from serving.ensemble.loading import Ensemble
from serving.ensemble.manifest import EnsembleUnavailable, Manifest
from serving.ensemble.turnout import Turnout, shards_needed
from serving.generations import Generations
from serving.metrics import (
    BATCH_IMAGES,
    DISAGREEMENTS,
    FLOOR,
    GENERATION,
    QUORUM_LOST,
    READY,
    SHARDS_ANSWERING,
    SHARDS_PENDING,
    WITHDRAWALS,
    WITHDRAWN,
    count_answers,
    images_of,
    refused,
    show_open_requests,
)
from serving.reading import INLINE_BYTES, Body, check_content_type, check_query, read_files, read_json, read_npy
from serving.refusal import Refusal, failure, not_kept, unavailable
from serving.settings import Settings

logger = logging.getLogger("serving")

WATCH_SECONDS = 1.0
PROBE_SECONDS = 1.0  # a probe that has waited so long for models to be opened says that they cannot answer now


class Answering:
    """Everything one worker needs to answer.

    ``has_floor``: whether anything but the published manifest said, when the service started, which generation
    is the newest. Raises EnsembleUnavailable when the provider is not available.
    """

    def __init__(self, settings: Settings, has_floor: bool) -> None:
        self._settings, self._has_floor = settings, has_floor
        self.generations = Generations(
            settings.models, settings.state, settings.provider, settings.thread_count, settings.min_generation
        )
        self._lost: Refusal | None = None  # the quorum, as it was logged
        self._writer = ThreadPoolExecutor(1, "withdraw")  # its own: others may be busy opening models
        self._loader = ThreadPoolExecutor(1, "load")  # one for all who wait, so that no other thread ever does
        self._batcher = Batcher(settings.max_batch, BATCH_IMAGES.observe)
        self._threads = ThreadPoolExecutor(settings.thread_count, "decode")
        self._decoders = Decoders(max(2, settings.thread_count), settings.max_pixels)

    async def watch(self) -> None:
        """Pick up new generations before anyone asks, and keep the gauges true; never returns."""
        while True:
            await self.is_ready()
            await asyncio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        """End what would otherwise outlive the service."""
        await self._decoders.close()

    async def is_ready(self) -> bool:
        """Whether the published generation can answer, with as many shards as must; known within a second or so."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                ensemble = await self.current()
        except (EnsembleUnavailable, TimeoutError):  # its reason is logged where it is raised
            ensemble = None
        turnout = ensemble.turnout if ensemble else None
        lost = lost_quorum(turnout, self._settings.quorum) if turnout else None
        ready = ensemble is not None and lost is None
        if lost != self._lost and lost is not None:
            logger.error("not ready: %s: expected %s, found %s", lost.error, lost.expected, lost.found)
        self._lost = lost
        if ensemble is not None and isinstance(ensemble.manifest, Manifest):
            show_open_requests(ensemble.manifest.open_requests)
        READY.set(ready)
        GENERATION.set(ensemble.generation if ensemble and ready else 0)
        FLOOR.set(self.generations.floor)
        SHARDS_ANSWERING.set(turnout.answered if turnout else 0)
        SHARDS_PENDING.set(len(turnout.pending) if turnout else 0)
        QUORUM_LOST.set(lost is not None)
        WITHDRAWN.set(self.generations.withdrawn)
        return ready

    async def _voting(self) -> Ensemble:
        """``current``, if as many shards answer as must. Raises Refusal when they do not."""
        ensemble = await self.current()
        refusal = lost_quorum(ensemble.turnout, self._settings.quorum)
        if refusal is not None:
            raise refusal
        return ensemble

    async def current(self) -> Ensemble:
        """What is published now; loaded in a thread if it is new. Raises EnsembleUnavailable."""
        ensemble = self.generations.loaded
        if ensemble is not None:
            return ensemble
        return await asyncio.get_running_loop().run_in_executor(self._loader, self.generations.current)

    async def describe(self, request: Request) -> Response:
        """``GET /v1/ensemble``."""
        try:
            check_query(request, ())
            ensemble = await self.current()
            floor = self.generations.floor if self._has_floor else None
            return JSONResponse(describe(ensemble, self._settings, floor))
        except Refusal as refusal:
            return refusal.response()
        except EnsembleUnavailable:
            return unavailable().response()

    async def withdraw(self, request: Request) -> Response:
        """``POST /v1/withdraw``. Confirmed only when no answer of any worker can come from these models any more."""
        request_id = request.scope["sisa.request_id"]
        try:
            check_query(request, ())
            check_content_type(request, "application/json")
            body, loop = await request.body(), asyncio.get_running_loop()
            digests = await loop.run_in_executor(self._writer, decode_withdrawal, body)
            withdrawal = await loop.run_in_executor(self._writer, self.generations.withdraw, digests)
        except Refusal as refusal:
            return refusal.response()
        except (EnsembleUnavailable, OSError) as error:
            logger.error("request %s: nothing was withdrawn: %s", request_id, error)
            return not_kept().response()
        except ClientDisconnect:
            return Refusal(400, "the connection ended before the body was complete").response()
        except Exception:
            return failure(request_id).response()
        confirmation = confirm(digests, withdrawal, self._settings)
        WITHDRAWALS.inc()
        logger.warning(
            "request %s: withdrawn for ever: %s; of these now: %s; listed by generation %s: %s",
            request_id,
            ", ".join(confirmation["withdrawn"]),
            ", ".join(sorted(withdrawal.fresh)) or "none",
            confirmation["generation"],
            ", ".join(confirmation["listed"] or ()) or "none",
        )
        request.scope["sisa.notes"].update(withdrawn=len(withdrawal.fresh))
        return JSONResponse(confirmation)

    async def predict_json(self, request: Request) -> Response:
        """``POST /v1/predict``."""
        return await self._answer(request, read_json)

    async def predict_npy(self, request: Request) -> Response:
        """``POST /v1/predict/npy``."""
        return await self._answer(request, read_npy)

    async def predict_files(self, request: Request) -> Response:
        """``POST /v1/predict/image``."""
        return await self._answer(request, read_files)

    async def _answer(self, request: Request, read: Callable[[Request, Settings], Awaitable[Body]]) -> Response:
        try:
            length = request.headers.get("content-length", "")
            if not (length.isdecimal() and int(length) <= INLINE_BYTES):
                await self._voting()  # not ready: say so before a long body is sent
            mode = check_query(request, ("mode",))
            body = await read(request, self._settings)
            client = request.client.host if request.client else ""
            while True:
                ensemble = await self._voting()
                images, named = await self._decode(body, ensemble.manifest.image_shape, client)
                if mode is not None and named is not None and mode != named:
                    raise Refusal(
                        400, "two modes are given", "mode", "one mode", f"{mode} in the query, {named} in the body"
                    )
                chosen = mode or named or ensemble.manifest.aggregation
                scores = await self._batcher.scores(ensemble, images, client)
                answer = encode(ensemble, scores, chosen)
                # The last moment: what was superseded or withdrawn meanwhile is computed again, never sent.
                if self.generations.is_current(ensemble):
                    break
        except Refusal as refusal:
            return refusal.response()
        except EnsembleUnavailable:
            return unavailable().response()
        except ClientDisconnect:
            return Refusal(400, "the connection ended before the body was complete").response()
        except Exception:  # BentoML would answer in a shape of its own, and log no request id
            return failure(request.scope["sisa.request_id"]).response()
        count(request.scope, ensemble, scores)
        return Response(answer, media_type="application/json")

    async def _decode(self, body: Body, shape: Shape, client: str) -> tuple[Images, Aggregation | None]:
        try:
            if body.quick:
                return body.decode(shape)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, body.decode, shape)
            except Large as large:
                return await self._decoders.decode(client, large, shape), body.mode
        except Refusal as refusal:
            refused(refusal.error).inc()
            raise


def lost_quorum(turnout: Turnout, quorum: float) -> Refusal | None:
    """503 when fewer shards answer than must."""
    needed = shards_needed(turnout.of, quorum)
    if turnout.answered >= needed:
        return None
    return Refusal(
        503,
        "too few shards answer",
        None,
        f"at least {needed} of the {turnout.of} shards with samples (serve.quorum {quorum:g})",
        f"{turnout.answered} answer; pending: {', '.join(map(str, turnout.pending))}",
        {"Retry-After": "60"},
    )


def count(scope: Any, ensemble: Ensemble, scores: Scores) -> None:
    """Metrics and the access log's line of one answered request."""
    images = len(scores.votes)
    images_of(scope["path"]).inc(images)
    count_answers(scores.mean, ensemble.manifest.classes)
    # Not `.sum()`, which gives up Python's lock and then waits for it beside busy threads.
    DISAGREEMENTS.inc(int(np.count_nonzero(scores.votes.max(axis=1) < len(ensemble.models))))
    scope["sisa.notes"].update(images=images, generation=ensemble.generation)
