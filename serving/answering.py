"""From a request to its answer: read, decode, compute, and send only what the published generation found."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serving.api import describe, encode
from serving.batching import Batcher, Scores
from serving.decoding import Images, Shape
from serving.ensemble.aggregation import Aggregation
from serving.ensemble.loading import Ensemble
from serving.ensemble.manifest import EnsembleUnavailable
from serving.generations import Generations
from serving.metrics import (
    BATCH_IMAGES,
    DISAGREEMENTS,
    FLOOR,
    GENERATION,
    PREDICTIONS,
    READY,
    images_of,
)
from serving.reading import Body, check_query, read_files, read_json, read_npy
from serving.refusal import Refusal, failure
from serving.settings import Settings

WATCH_SECONDS = 1.0


class Answering:
    """Everything one worker needs to answer. Raises EnsembleUnavailable when the provider is not available."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.generations = Generations(
            settings.models, settings.state / "floor.json", settings.provider, settings.thread_count
        )
        self._batcher = Batcher(settings.max_batch, BATCH_IMAGES.observe)
        self._decoders = ThreadPoolExecutor(settings.thread_count, "decode")

    async def watch(self) -> None:
        """Pick up new generations before anyone asks, and keep the gauges true; never returns."""
        while True:
            await self.is_ready()
            await asyncio.sleep(WATCH_SECONDS)

    async def is_ready(self) -> bool:
        """Whether the published generation can answer."""
        generation = 0
        with contextlib.suppress(EnsembleUnavailable):  # its reason is logged where it is raised
            generation = (await self.current()).generation
        READY.set(generation > 0)
        GENERATION.set(generation)
        FLOOR.set(self.generations.newest_seen)
        return generation > 0

    async def current(self) -> Ensemble:
        """What is published now; loaded in a thread if it is new. Raises EnsembleUnavailable."""
        ensemble = self.generations.loaded
        if ensemble is not None:
            return ensemble
        return await asyncio.to_thread(self.generations.current)

    async def describe(self, request: Request) -> Response:
        """``GET /v1/ensemble``."""
        try:
            check_query(request, ())
            return JSONResponse(describe(await self.current(), self._settings))
        except Refusal as refusal:
            return refusal.response()
        except EnsembleUnavailable:
            return unavailable().response()

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
            await self.current()  # not ready: say so before a long body is sent
            mode = check_query(request, ("mode",))
            body = await read(request, self._settings)
            while True:
                ensemble = await self.current()
                images, named = await self._decode(body, ensemble.manifest.image_shape)
                if mode is not None and named is not None and mode != named:
                    raise Refusal(
                        400, "two modes are given", "mode", "one mode", f"{mode} in the query, {named} in the body"
                    )
                chosen = mode or named or ensemble.manifest.aggregation
                scores = await self._batcher.scores(ensemble, images)
                answer = encode(ensemble, scores, chosen)
                # The last moment: what was superseded meanwhile is computed again, never sent.
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

    async def _decode(self, body: Body, shape: Shape) -> tuple[Images, Aggregation | None]:
        if body.quick:
            return body.decode(shape)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, body.decode, shape)


def unavailable() -> Refusal:
    """503; the reason, which may hold paths, is in the log."""
    return Refusal(
        503,
        "the published ensemble cannot be served now",
        None,
        "an intact manifest, not older than any seen before",
        "the reason is in the service's log",
        {"Retry-After": "1"},
    )


def count(scope: Any, ensemble: Ensemble, scores: Scores) -> None:
    """Metrics and the access log's line of one answered request."""
    images = len(scores.votes)
    images_of(scope["path"]).inc(images)
    PREDICTIONS.inc(images)
    DISAGREEMENTS.inc(int((scores.votes.max(axis=1) < len(ensemble.sessions)).sum()))
    scope["sisa.notes"].update(images=images, generation=ensemble.generation)
