"""What every request passes: its id, the token, the limits, the clock, the counters and the access log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.bodies import Bodies
from serving.exchange import Exchange
from serving.log import log_request
from serving.metrics import IN_FLIGHT, requests_of
from serving.refusal import Refusal, cut, failure

logger = logging.getLogger("serving")

WITHDRAW, REPORT = "/v1/withdraw", "/report"
PROBES = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})


class Gate:
    """ASGI middleware around the whole service.

    ``token``: what ``/v1/*`` and ``/report`` ask for as ``Authorization: Bearer``, or None. ``admin_token``: what
    ``/v1/withdraw`` asks for instead; None: nobody may. ``max_concurrency``: requests to ``/v1/*`` being processed at
    once, each from when its body is there: a place is taken by work, not by a promise; no client has the last quarter.
    ``max_bytes_at_work``: bytes of all bodies at once, half of them of one client. ``timeout``: seconds for a request,
    its body included. ``routes``: paths that are counted under their own name; the rest counts as ``other``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        admin_token: str | None,
        max_body_bytes: int,
        max_bytes_at_work: int,
        max_concurrency: int,
        timeout: float,
        routes: frozenset[str],
    ) -> None:
        self._app, self._timeout, self._routes = app, timeout, routes
        self._token, self._admin_token = token, admin_token
        self._max_body_bytes, self._max_concurrency = max_body_bytes, max_concurrency
        self._bodies = Bodies(max_bytes_at_work, max_body_bytes)
        self._at_work = Counter[str]()  # by client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange = Exchange(scope, receive, send, self._max_body_bytes, take_place=self._take_place, hold=self._hold)
        try:
            await self._pass(exchange)
        finally:
            self._record(exchange)
        return None

    async def _pass(self, exchange: Exchange) -> None:
        guarded = exchange.path.startswith("/v1/") or exchange.path == REPORT
        try:
            if guarded:
                self._admit(exchange)
            try:
                async with asyncio.timeout(self._timeout), exchange.watched():
                    await self._app(exchange.scope, exchange.receive, exchange.send)
            finally:
                if exchange.at_work:
                    self._at_work[exchange.client] -= 1
                    if not self._at_work[exchange.client]:
                        del self._at_work[exchange.client]
                    IN_FLIGHT.dec()
                self._bodies.release(exchange)
        except TimeoutError:
            if exchange.status:  # it is there, and the client does not take it
                exchange.notes["unread"] = True
                return
            refusal = self._too_late(exchange)
        except Refusal as refused:
            refusal = refused
        except Exception:
            refusal = failure(exchange.request_id)
        else:
            if not exchange.status:
                await exchange.end()
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
            self._at_work[exchange.client] += 1
            IN_FLIGHT.inc()

    def _hold(self, exchange: Exchange, size: int) -> None:
        if exchange.path != WITHDRAW:
            self._bodies.hold(exchange, size)

    def _check_places(self, exchange: Exchange) -> None:
        if exchange.path == WITHDRAW:  # a model must go however busy the service is
            return
        most, every, own = self._max_concurrency, self._at_work.total(), self._at_work[exchange.client]
        if every >= most or own >= most - most // 4:
            raise Refusal(
                429,
                "too many requests at once",
                None,
                f"at most {most} being processed, {most - most // 4} of one client",
                f"{every} being processed, {own} of this client",
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
        log_request(
            request_id=exchange.request_id,
            client=exchange.client or None,
            method=exchange.scope["method"],
            path=cut(exchange.path, 200),
            status=int(status),
            milliseconds=round(seconds * 1000, 2),
            bytes_in=exchange.received,
            **exchange.notes,
        )
