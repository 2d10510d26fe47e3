"""The BentoML service: `bentoml serve serving.service:Sisa` (`make serve`)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from weakref import WeakKeyDictionary

import bentoml
from bentoml import Bento
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from serving.answering import Answering
from serving.api import ImageFiles, JsonImages, NpyImages, Predictions
from serving.connection import Limits, speak_http
from serving.ensemble.loading import Ensemble, execution_providers
from serving.ensemble.manifest import EnsembleUnavailable
from serving.gate import WITHDRAW, Gate
from serving.log import configure_logging
from serving.metrics import exposition, show_build
from serving.openapi import PREDICTIONS, openapi
from serving.refusal import Refusal, unavailable
from serving.report import read_report
from serving.settings import SettingsError, load_settings, load_tokens
from serving.startup import check_port, check_state, give_up

ROOT = Path(__file__).parents[1]
configure_logging()
try:
    SETTINGS = load_settings(ROOT)
    API_TOKEN, ADMIN_TOKEN = load_tokens()
    execution_providers(SETTINGS.provider)  # an unavailable one stops the start
except (SettingsError, EnsembleUnavailable) as error:
    give_up(error)
speak_http(Limits(SETTINGS.max_head_bytes, SETTINGS.head_seconds, SETTINGS.connection_count))
# Every worker must say the same, and one that starts late finds what another has written: the process that starts them,
# which imports this first, decides for all of them.
HAS_STATE = os.environ.setdefault("SISA_HAS_STATE", str((SETTINGS.state / "floor.json").exists())) == "True"
REPORT = ROOT / "reports/report.html"

DOCUMENTS = WeakKeyDictionary[Ensemble, bytes]()

SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
PAGE = {
    **SAFE,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data: 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
DOCS = {
    **SAFE,
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
}


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("page.html"), headers=PAGE)


async def docs(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("docs.html"), headers=DOCS)


async def docs_json(request: Request) -> Response:
    return Response(document(answering().generations.loaded), media_type="application/json")


def document(ensemble: Ensemble | None) -> bytes:
    """As JSON; made once for an ensemble, since it takes milliseconds in which nobody else is answered."""
    if ensemble is None:
        return bytes(JSONResponse(openapi(None, SETTINGS.max_images)).body)
    if ensemble not in DOCUMENTS:
        DOCUMENTS[ensemble] = bytes(JSONResponse(openapi(ensemble, SETTINGS.max_images)).body)
    return DOCUMENTS[ensemble]


async def report(request: Request) -> Response:
    try:
        current = await answering().current()
        content = await asyncio.to_thread(read_report, REPORT, current.manifest)
    except Refusal as refusal:
        return refusal.response()
    except EnsembleUnavailable:
        return unavailable().response()
    return Response(content, media_type="text/html", headers=PAGE | {"Cache-Control": "no-store"})


async def ensemble(request: Request) -> Response:
    return await answering().describe(request)


async def withdraw(request: Request) -> Response:
    return await answering().withdraw(request)


async def metrics(request: Request) -> Response:
    await answering().is_ready()
    return Response(await asyncio.to_thread(exposition), media_type="text/plain; version=0.0.4; charset=utf-8")


async def unknown(request: Request) -> Response:
    path = request.url.path
    if allowed := "POST" if path in {*PREDICTIONS, WITHDRAW} else "GET" if path == "/v1/ensemble" else None:
        found, headers = request.method, {"Allow": allowed}
        return Refusal(405, "method not allowed", "method", allowed, found, headers).response()
    known = ", ".join((*PREDICTIONS, "/v1/ensemble", WITHDRAW))
    return Refusal(404, "there is nothing here", "path", known, path[:80]).response()


pages = Starlette(
    routes=[
        Route("/", page),
        Route("/docs", docs),
        Route("/docs.json", docs_json),
        Route("/report", report),
        Route("/metrics", metrics),
        Route("/v1/ensemble", ensemble),
        Route(WITHDRAW, withdraw, methods=["POST"]),
        Route("/v1/{path:path}", unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    ]
)


@bentoml.asgi_app(pages)
@bentoml.service(
    name="sisa",
    workers=SETTINGS.workers,
    # The gate has these, in the service's own shape: timeouts, counters, access log. BentoML's, which cannot be done
    # without, keeps a timer of each request for so long.
    traffic={"timeout": SETTINGS.timeout_seconds + 5},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    # Spans that nobody collects cost a quarter of a small request.
    tracing={"excluded_urls": ".*"},
)
class Sisa:
    """An image classifier that can forget: every shard's model answers, the mean or the vote decides."""

    def __init__(self) -> None:
        self.answering = Answering(SETTINGS, has_floor=HAS_STATE or SETTINGS.min_generation > 0)
        show_build(bento_tag())

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Once, before any worker is started."""
        check_state(SETTINGS.state)
        check_port()

    @bentoml.on_startup
    async def start(self) -> None:
        self._watch = asyncio.create_task(self.answering.watch())

    @bentoml.on_shutdown
    async def stop(self) -> None:
        self._watch.cancel()
        await self.answering.close()

    async def __is_ready__(self) -> bool:
        return await self.answering.is_ready()

    @bentoml.api(route="/v1/predict", input_spec=JsonImages, output_spec=Predictions)
    async def predict(self, request: Request) -> Response:
        """Images as JSON, uint8 (N, H, W, 3)."""
        return await self.answering.predict_json(request)

    @bentoml.api(route="/v1/predict/npy", input_spec=NpyImages, output_spec=Predictions)
    async def predict_npy(self, request: Request) -> Response:
        """Images as a .npy file, uint8 (N, H, W, 3)."""
        return await self.answering.predict_npy(request)

    @bentoml.api(route="/v1/predict/image", input_spec=ImageFiles, output_spec=Predictions)
    async def predict_image(self, request: Request) -> Response:
        """PNG, JPEG or WEBP files."""
        return await self.answering.predict_files(request)


def bento_tag() -> str:
    """Of the bento that this service was started from; none where that is a folder with its code."""
    bento: Bento | None = Sisa.bento  # type: ignore[attr-defined]  # the decorator makes a Service of it
    return str(bento.tag) if bento else "none"


def answering() -> Answering:
    """That of the instance which this process serves."""
    found: Answering = bentoml.get_current_service().answering
    return found


Sisa.add_asgi_middleware(  # type: ignore[attr-defined]
    Gate,
    token=API_TOKEN,
    admin_token=ADMIN_TOKEN,
    max_body_bytes=SETTINGS.max_body_bytes,
    max_bytes_at_work=SETTINGS.worker_bytes,
    max_concurrency=SETTINGS.worker_concurrency,
    timeout=SETTINGS.timeout_seconds,
    routes=frozenset(
        {*PREDICTIONS, "/v1/ensemble", WITHDRAW, "/", "/docs", "/report", "/livez", "/readyz", "/healthz", "/metrics"}
    ),
)
