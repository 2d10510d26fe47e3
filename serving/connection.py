"""One client's connection: how long a head may be and take, and how many connections there may be.

uvicorn with httptools knows no such bounds, and BentoML offers no way to ask for another protocol class.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.log import log_request
from serving.metrics import requests_of
from serving.refusal import Refusal

LINGER_SECONDS = 2.0  # for a client that is still sending to read why it is refused
AHEAD = 16  # requests that may be sent before the first of them is answered


@dataclass(frozen=True)
class Limits:
    """``head_bytes``: of a request line with its headers. ``head_seconds``: until it is complete, from the first byte.

    ``connections``: of one worker; a client may have half of them, so that no two lock out a third.
    """

    head_bytes: int = 32 * 2**10
    head_seconds: float = 10.0
    connections: int = 1024


class Connection(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with ``limits``, an ``Upgrade`` that is ignored, and refusals of one shape.

    Where connections are needed for others, those go first that keep the service waiting, the longest silent before
    the rest; with none waiting the new one is turned away.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deaf = False  # whatever still comes is thrown away
        self._ended = False  # nothing more will be written
        self._in_message = False  # its first byte has come, its last has not
        self._idle_bytes = 0  # received since the last progress: of a head or of trailers, or to be ignored
        self._heard = self.loop.time()
        self._deadline: float | None = self._heard + self.limits.head_seconds  # for what the client owes
        self._timer = self.loop.call_later(self.limits.head_seconds, self._look)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    # --- What comes

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._heard = self.loop.time()
        if self._deadline is None and not self._at_work:
            self._deadline = self._heard + self.limits.head_seconds
        self._idle_bytes += len(data)
        try:
            self._parse(data)
            if self._idle_bytes > self.limits.head_bytes:
                raise self._too_long()
        except Refusal as refusal:
            self._refuse(refusal)
        except HttpParserError as error:
            known = error.__context__
            self._refuse(known if isinstance(known, Refusal) else malformed(str(known or error)))

    def _parse(self, data: bytes) -> None:
        """An ``Upgrade`` is ignored, as RFC 9110, 7.8 has it: the parser would take the body for another protocol's."""
        while True:
            try:
                return self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _should_upgrade(self) -> bool:
        return False

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limits.head_bytes:
            raise self._too_long()
        if self.parser.get_method() == b"CONNECT":
            raise Refusal(405, "method not allowed", "method", "GET or POST", "CONNECT")
        if self.parser.should_upgrade():
            return  # it comes again without
        if len(self.pipeline) >= AHEAD:
            raise Refusal(429, "too many requests are sent ahead", None, f"at most {AHEAD}", "more")
        self._idle_bytes, self._deadline = 0, None
        super().on_headers_complete()
        self.cycle.transport = cast(asyncio.Transport, self)

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._idle_bytes, self._in_message = 0, False
            super().on_message_complete()

    # --- What goes: a cycle's transport is this connection

    def write(self, data: bytes) -> None:
        """Nothing, once the connection has ended: an answer may be ready later than that."""
        if not (self._ended or self.transport.is_closing()):
            self.transport.write(data)

    def is_closing(self) -> bool:
        return bool(self.transport.is_closing())

    def close(self) -> None:
        """With a client that is still sending, an answer would be lost if the connection were closed at once."""
        if self._in_message:
            self._linger()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        if self._ended:
            return
        super().on_response_complete()
        if self._in_message:  # the rest of a body that nobody reads, or the next head
            self._deadline = self.loop.time() + self.limits.head_seconds

    # --- Bounds

    @property
    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _waited_for(self) -> bool:
        return not self._at_work or self.cycle.more_body

    def _make_room(self) -> None:
        most = self.limits.connections
        if len(self.connections) <= most // 2:
            return
        connections = cast("set[Connection]", self.connections)
        own = [each for each in connections if each.address == self.address]
        if len(own) <= most // 2:
            if len(connections) <= most:
                return
            own = list(connections)
        waiting = [each for each in own if each._waited_for and each is not self]
        if waiting:
            min(waiting, key=lambda each: each._heard).transport.abort()
        else:
            expected = f"at most {most}, and {most // 2} of one client"
            self._refuse(Refusal(503, "too many connections", None, expected, None, {"Retry-After": "1"}))
            self.transport.close()

    @property
    def address(self) -> str | None:
        return self.client[0] if self.client else None

    def _look(self) -> None:
        """End what is overdue; look again when the next thing may be."""
        now, rest = self.loop.time(), self.limits.head_seconds
        if self.transport.is_closing() and self._deadline is None:
            self._deadline = now + rest  # for the client to read what was written
        if self._deadline is not None and (rest := self._deadline - now) <= 0:
            if self.transport.is_closing() or self._at_work or self._idle_bytes == 0:
                return self.transport.abort()
            expected = f"within {self.limits.head_seconds:g} seconds"
            return self._refuse(Refusal(408, "the request's head did not arrive in time", None, expected))
        self._timer = self.loop.call_later(rest, self._look)
        return None

    def _too_long(self) -> Refusal:
        expected = f"at most {self.limits.head_bytes} bytes"
        return Refusal(431, "the request's head is too long", None, expected, "more")

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in the place of the service, if no answer has begun, and end the connection."""
        self._deaf = True
        if self._at_work:
            if self.pipeline or not self.cycle.more_body or self.cycle.response_started:
                self.cycle.keep_alive = False  # it ends after the answers that are due
                return
            self.cycle.disconnected = True  # nobody answers what is refused here
            self.cycle.message_event.set()
        response = refusal.response()
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", response.body]))
        requests_of("other", str(refusal.status))[0].inc()
        log_request(client=self.address, status=refusal.status, error=refusal.error, found=refusal.found)
        self._linger()

    def _linger(self) -> None:
        """Say that no more will come, and read for a while without listening."""
        self._deaf = self._ended = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer.cancel()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def malformed(found: str) -> Refusal:
    return Refusal(400, "this is not a request in HTTP/1.1", None, "a request line, headers, a body", found[:80])


def speak_http(limits: Limits) -> None:
    """Have uvicorn take this class: BentoML configures it in each worker, after the service has been imported."""
    Connection.limits = limits
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
