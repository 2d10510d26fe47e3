"""What every request passes: its id, the token, the limits, the clock, the counters and the access log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.log import log_request
from serving.metrics import requests_of
from serving.refusal import Refusal, cut, failure, foreign

logger = logging.getLogger("serving")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
WITHDRAW = "/v1/withdraw"
PROBES = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})


class Gate:
    """ASGI middleware around the whole service.

    ``token``: what ``/v1/*`` asks for as ``Authorization: Bearer``, or None. ``admin_token``: what ``/v1/withdraw``
    asks for instead; None: nobody may. ``max_concurrency``: requests to ``/v1/*`` being processed at once, each from
    when its body is there: a place is taken by work, not by a promise. ``timeout``: seconds for a request, its body
    included. ``routes``: paths that are counted under their own name; the rest counts as ``other``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        admin_token: str | None,
        max_body_bytes: int,
        max_concurrency: int,
        timeout: float,
        routes: frozenset[str],
    ) -> None:
        self._app, self._timeout, self._routes = app, timeout, routes
        self._token, self._admin_token = token, admin_token
        self._max_body_bytes, self._max_concurrency = max_body_bytes, max_concurrency
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange = Exchange(scope, receive, send, self._max_body_bytes, self._take_place)
        try:
            await self._pass(exchange)
        finally:
            self._record(exchange)
        return None

    async def _pass(self, exchange: Exchange) -> None:
        guarded = exchange.path.startswith("/v1/")
        try:
            if guarded:
                self._admit(exchange)
            try:
                async with asyncio.timeout(self._timeout):
                    await self._app(exchange.scope, exchange.receive, exchange.send)
            finally:
                self._at_work -= exchange.at_work
        except TimeoutError:
            refusal = self._too_late(exchange)
        except Refusal as refused:
            refusal = refused
        except Exception:
            refusal = failure(exchange.request_id)
        else:
            return
        if not exchange.status:
            await refusal.response()(exchange.scope, exchange.receive, exchange.send)

    def _admit(self, exchange: Exchange) -> None:
        """Raises Refusal before anything of the body is read."""
        expected = self._token
        if exchange.path == WITHDRAW:
            expected = self._admin_token
            if expected is None:
                raise Refusal(
                    403,
                    "no models can be withdrawn here",
                    None,
                    "a service that was started with SISA_ADMIN_TOKEN",
                    "none is set",
                    {"Connection": "close"},
                )
        if expected is not None:
            given = exchange.headers.get(b"authorization", b"")
            scheme, _, token = given.partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(b" "), expected.encode()):
                raise Refusal(
                    401,
                    "a token is needed" if not given else "the token is wrong",
                    "Authorization",
                    "Authorization: Bearer <token>",
                    "no such header" if not given else "another value",
                    {"WWW-Authenticate": "Bearer", "Connection": "close"},
                )
        kind = exchange.headers.get(b"content-type", b"")
        if kind.startswith(b"application/vnd.bentoml+pickle"):  # BentoML would refuse it in a shape of its own
            raise Refusal(415, "a pickle is never read", "Content-Type", "see /docs", kind.decode("latin-1"))
        length = exchange.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise exchange.too_long(f"{int(length)} bytes")
        if exchange.complete:
            self._take_place(exchange)
        else:
            self._check_places(exchange)

    def _take_place(self, exchange: Exchange) -> None:
        """Raises Refusal when there is none."""
        if exchange.path.startswith("/v1/") and not exchange.at_work:
            self._check_places(exchange)
            exchange.at_work = True
            self._at_work += 1

    def _check_places(self, exchange: Exchange) -> None:
        # A model must go however busy the service is.
        if self._at_work >= self._max_concurrency and exchange.path != WITHDRAW:
            raise Refusal(
                429,
                "too many requests at once",
                None,
                f"at most {self._max_concurrency} being processed",
                f"{self._at_work} being processed",
                {"Retry-After": "1", "Connection": "close"},
            )

    def _too_late(self, exchange: Exchange) -> Refusal:
        expected = f"within {self._timeout:g} seconds"
        if not exchange.complete:
            return Refusal(408, "the body did not arrive in time", None, expected, None, {"Connection": "close"})
        logger.error("request %s: no answer within %g seconds", exchange.request_id, self._timeout)
        return Refusal(504, "the answer was not ready in time", None, expected, None, {"Retry-After": "1"})

    def _record(self, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started
        route = exchange.path if exchange.path in self._routes else "other"
        status = str(exchange.status or 499)  # 499: the caller went away first
        number, duration = requests_of(route, status)
        number.inc()
        duration.observe(seconds)
        if exchange.path in PROBES and exchange.status == 200:
            return
        client = exchange.scope.get("client")
        log_request(
            request_id=exchange.request_id,
            client=client[0] if client else None,
            method=exchange.scope["method"],
            path=cut(exchange.path, 200),
            status=int(status),
            milliseconds=round(seconds * 1000, 2),
            bytes_in=exchange.received,
            **exchange.notes,
        )


class Exchange:
    """One request and its answer, as they pass the gate.

    In the scope the service finds ``sisa.request_id``, and ``sisa.notes``: what it adds to the access log's line.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        max_body_bytes: int,
        take_place: Callable[[Exchange], None],
    ) -> None:
        self.notes: dict[str, Any] = {}
        self.path: str = scope["path"]
        self.headers = dict(reversed(scope["headers"]))  # of several by one name the first, as Starlette has it
        self.started = time.perf_counter()
        self.status = 0
        self.received = 0
        self.complete = self.headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in self.headers
        given = self.headers.get(b"x-request-id", b"")
        # The caller's id is kept only if it is harmless in a log.
        self.request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.scope: Scope = {**scope, "sisa.notes": self.notes, "sisa.request_id": self.request_id}
        self._receive, self._send, self._max_body_bytes = receive, send, max_body_bytes
        self._take_place, self.at_work = take_place, False
        self._replaced = False

    async def receive(self) -> Message:
        """Raises Refusal when the body is longer than allowed, whatever its header said, or when no place is left."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.received > self._max_body_bytes:
                raise self.too_long(f"more than {self._max_body_bytes} bytes")
            if self.complete:
                self._take_place(self)
        return message

    async def send(self, message: Message) -> None:
        """Errors in another shape than the service's, which Starlette and BentoML have, are put into it."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = Headers(raw=message["headers"])
            if self.status >= 400 and headers.get("content-type") != "application/json":
                await foreign(self.status, self.path, self.scope["method"], headers).response()(
                    self.scope, self._receive, self.send
                )
                self._replaced = True
                return
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self.request_id.encode())]}
        await self._send(message)

    def too_long(self, found: str) -> Refusal:
        expected = f"at most {self._max_body_bytes} bytes"
        return Refusal(413, "the body is too long", None, expected, found, {"Connection": "close"})
