"""One request and its answer, as they pass the gate."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from serving.refusal import Refusal, foreign

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
CLIENT = 45  # characters of an address; a proxy's X-Forwarded-For may hold anything
WATCH_SECONDS = 0.1  # how long a request may take before its client is watched


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
        *,
        take_place: Callable[[Exchange], None],
        hold: Callable[[Exchange, int], None],
    ) -> None:
        self.notes: dict[str, Any] = {}
        self.path: str = scope["path"]
        self.client: str = (scope.get("client") or ("",))[0][:CLIENT]
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
        self._hold, self.held = hold, 0
        self._work: asyncio.Task[object] | None = None
        self._gives_way = False
        self._replaced = False

    def give_way(self) -> None:
        """Its body is still arriving, and others need the room."""
        self._gives_way = True
        if self._work is not None:
            self._work.cancel()

    async def end(self) -> None:
        """Where the client has gone: an answer that nobody gets, or BentoML would wait for one, and so would a stop."""
        await self._send({"type": "http.response.start", "status": 500, "headers": []})
        await self._send({"type": "http.response.body"})

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel the work within when the client goes away while it is done; nothing is raised then.

        Raises Refusal when it gave way to others.
        """
        work = self._work = asyncio.current_task()
        assert work is not None
        gone = False

        async def watch() -> None:
            nonlocal gone
            while not self.complete:  # the service itself reads the body, and would notice
                await asyncio.sleep(WATCH_SECONDS)
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if not self.status:
                gone = True
                work.cancel()

        watcher: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        # Most requests are answered before it begins: a task for each would cost more than some of them.
        later = loop.call_later(WATCH_SECONDS, lambda: watcher.append(loop.create_task(watch())))
        try:
            yield
        except asyncio.CancelledError:
            if not (gone or self._gives_way) or work.uncancel() > 0:
                raise
            if self._gives_way:
                expected = "a body without pauses, while others wait for room"
                close = {"Connection": "close"}
                raise Refusal(408, "the body did not arrive in time", None, expected, None, close) from None
        finally:
            later.cancel()
            for task in watcher:
                task.cancel()

    async def receive(self) -> Message:
        """Raises Refusal when the body is longer than allowed, or no place or no room is left for it."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.received > self._max_body_bytes:
                raise self.too_long(f"more than {self._max_body_bytes} bytes")
            self._hold(self, len(message.get("body", b"")))
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
