"""From a request to its answer: read, decode, compute, and send only what the published generation found."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serving.api import describe, encode
from serving.batching import Batcher, Scores
from serving.decoding import Pictures, Shape, decode_files, decode_json, decode_npy
from serving.ensemble import AGGREGATIONS, Aggregation, Ensemble, EnsembleUnavailable
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
from serving.refusal import Refusal, failure, short
from serving.settings import Settings

T = TypeVar("T")

WATCH_SECONDS = 1.0
INLINE_BYTES = 64 * 1024  # a longer body is decoded in a thread, so that other requests need not wait

# A body that has arrived: given the side of the ensemble's pictures, the pictures and the mode if the
# body names one.
Body = Callable[[Shape], Awaitable[tuple[Pictures, Aggregation | None]]]


class Answering:
    """Everything one worker needs to answer. Raises EnsembleUnavailable when the provider cannot be had."""

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
            generation = (await self.current()).manifest.generation
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
        return await self._answer(request, self._read_json)

    async def predict_npy(self, request: Request) -> Response:
        """``POST /v1/predict/npy``."""
        return await self._answer(request, self._read_npy)

    async def predict_files(self, request: Request) -> Response:
        """``POST /v1/predict/image``."""
        return await self._answer(request, self._read_files)

    async def _answer(self, request: Request, read: Callable[[Request], Awaitable[Body]]) -> Response:
        try:
            await self.current()  # not ready: say so before a long body is sent
            mode = check_query(request, ("mode",))
            body = await read(request)
            while True:
                ensemble = await self.current()
                images, named = await body(ensemble.manifest.image_shape)
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

    async def _read_json(self, request: Request) -> Body:
        check_content_type(request, "application/json")
        body = await request.body()

        async def decode(shape: Shape) -> tuple[Pictures, Aggregation | None]:
            run = partial(decode_json, body, shape, self._settings.max_images)
            return run() if len(body) <= INLINE_BYTES else await self._in_thread(run)

        return decode

    async def _read_npy(self, request: Request) -> Body:
        check_content_type(request, "application/x-npy", "application/octet-stream")
        body = await request.body()

        async def decode(shape: Shape) -> tuple[Pictures, Aggregation | None]:
            return decode_npy(body, shape, self._settings.max_images), None

        return decode

    async def _read_files(self, request: Request) -> Body:
        check_content_type(request, "multipart/form-data")
        form = await parse_form(request, self._settings.max_images)
        files, mode = check_form(form)

        async def decode(shape: Shape) -> tuple[Pictures, Aggregation | None]:
            opened = [file.file for file in files]
            return await self._in_thread(partial(decode_files, opened, shape, self._settings.max_pixels)), mode

        return decode

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)


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


def check_mode(mode: str) -> Aggregation:
    for known in AGGREGATIONS:
        if mode == known:
            return known
    raise Refusal(400, "there is no such mode", "mode", "mean or vote", short(mode))


def check_query(request: Request, known: tuple[str, ...]) -> Aggregation | None:
    """The mode in the query, if there is one."""
    mode = None
    for name, value in request.query_params.multi_items():
        if name not in known or mode is not None:
            allowed = f"{', '.join(known)}, once" if known else "none"
            raise Refusal(400, "there is no such query parameter", short(name)[1:-1], allowed, short(f"{name}={value}"))
        mode = check_mode(value)
    return mode


def check_content_type(request: Request, *allowed: str) -> None:
    given = request.headers.get("content-type", "")
    if given.split(";")[0].strip().lower() not in allowed:
        raise Refusal(
            415,
            "another content type is expected",
            "Content-Type",
            " or ".join(allowed),
            short(given) if given else "none",
        )


# A part's name and text would be decoded with whatever codec the caller names; punycode takes minutes for a megabyte.
FOREIGN_CHARSET = re.compile(r'charset(?!="?utf-8"?\s*(;|$))', re.IGNORECASE)


class FormParser(MultiPartParser):
    """Starlette's; ``ended`` says whether the closing boundary has come, without which a form is not complete."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def parse_form(request: Request, max_images: int) -> FormData:
    """Raises Refusal when the form is malformed, or not complete: what is missing at its end would go unnoticed."""
    expected = "multipart/form-data with picture files in the field images"
    if FOREIGN_CHARSET.search(request.headers["content-type"]):
        given = short(request.headers["content-type"])
        raise Refusal(415, "another character set is expected", "Content-Type", "utf-8, or none named", given)
    try:
        parser = FormParser(request.headers, request.stream(), max_files=max_images, max_fields=1)
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        if str(error).startswith("Too many files"):
            raise Refusal(413, "there are too many images", "images", f"1 to {max_images} images", str(error)) from None
        raise Refusal(400, "the form is malformed", None, expected, short(str(error))) from None
    if not parser.ended:
        await form.close()
        raise Refusal(400, "the form is malformed", None, expected, "no closing boundary")
    return form


def check_form(form: FormData) -> tuple[list[UploadFile], Aggregation | None]:
    """The files of the field ``images``, and the mode if the field ``mode`` names one."""
    files: list[UploadFile] = []
    mode = None
    for name, value in form.multi_items():
        if name == "images":
            if isinstance(value, str):
                raise Refusal(400, "the field holds no file", "images", "files, each with a filename", short(value))
            files.append(value)
        elif name == "mode":
            if not isinstance(value, str):
                raise Refusal(400, "the field holds a file", "mode", "mean or vote", short(value.filename))
            mode = check_mode(value.strip('"'))  # BentoML's client sends it as JSON
        else:
            raise Refusal(400, "there is no such field", short(name)[1:-1], "images, and mode if you like", short(name))
    if not files:
        raise Refusal(400, "a field is missing", "images", "one or more picture files", "none")
    return files, mode


def count(scope: Any, ensemble: Ensemble, scores: Scores) -> None:
    """Metrics and the access log's line of one answered request."""
    images = len(scores.votes)
    images_of(scope["path"]).inc(images)
    PREDICTIONS.inc(images)
    DISAGREEMENTS.inc(int((scores.votes.max(axis=1) < len(ensemble.sessions)).sum()))
    scope["sisa.notes"].update(images=images, generation=ensemble.manifest.generation)
