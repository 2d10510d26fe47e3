"""How a request is refused: one shape for every 4xx and 5xx, ``{"error", "field", "expected", "found"}``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

logger = logging.getLogger("serving")


@dataclasses.dataclass
class Refusal(Exception):
    """A request that is not answered, and why.

    ``field``: the part of the request at fault, such as ``images[2]``, or None for the whole of it.
    """

    status: int
    error: str
    field: str | None = None
    expected: str | None = None
    found: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def response(self) -> JSONResponse:
        body = {"error": self.error, "field": self.field, "expected": self.expected, "found": self.found}
        return JSONResponse(body, self.status, self.headers)


def failure(request_id: str) -> Refusal:
    """500 for the exception that is being handled; the traceback is in the log."""
    logger.exception("request %s failed", request_id)
    return Refusal(500, "internal server error", None, "an answer", f"an exception; the log has it as {request_id}")


def not_kept() -> Refusal:
    """503 for a withdrawal that could not be written: it does not hold."""
    return Refusal(
        503,
        "nothing was withdrawn",
        None,
        "an intact list of withdrawn models in a state folder that can be written to",
        "the reason is in the service's log",
        {"Retry-After": "1"},
    )


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


def foreign(status: int, path: str, method: str, headers: Mapping[str, str]) -> Refusal:
    """The service's own words for what Starlette or BentoML answer with plain text."""
    if status == 404:
        return Refusal(404, "there is nothing here", "path", "see /docs", cut(path))
    if status == 405:
        allowed = headers.get("allow", "GET")
        return Refusal(405, "method not allowed", "method", allowed, method, {"Allow": allowed})
    if status == 503:
        found = "the reason is in the service's log"
        return Refusal(503, "not ready", None, "an ensemble that can answer", found, {"Retry-After": "1"})
    return Refusal(status, HTTPStatus(status).phrase.lower())


def cut(text: str, limit: int = 80) -> str:
    """At most ``limit`` characters of a text of our own or a library's."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def short(value: object, limit: int = 80) -> str:
    """A value of the caller's as the caller may see it again: its repr, cut to ``limit`` characters."""
    return cut(repr(value), limit)
