"""What a client may do to the service with a connection alone: heads, promises and silence, over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from server import FLAT, RED, Server, npy, picture, publish

HEAD = b"POST /v1/predict/npy HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
BODY = npy(picture(RED)[None])
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
PLACES = 8
MANY = 400


class Poor(Server):
    """256 descriptors, so 128 connections, 64 of one client."""

    def command(self) -> list[str]:
        return ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh", *super().command()]


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("poor")
    publish(folder / "models", 1, [FLAT, FLAT])
    limits: dict[str, Any] = {"max_concurrency": PLACES, "head_seconds": 1, "timeout_seconds": 20}
    with Poor(folder, max_body_bytes=200_000, **limits) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def connect(server: Server, host: str = "127.0.0.1") -> socket.socket:
    """``host``: which of the loopback's addresses the client has."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=20, source_address=(host, 0))


def rest(connection: socket.socket) -> bytes:
    """Everything until the other side ends."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def answers(raw: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Status and document of each answer in ``raw``."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers["content-length"])
        found.append((int(lines[0].split()[1]), json.loads(raw[:length])))
        raw = raw[length:]
    return found


def exchange(server: Server, *parts: bytes) -> list[tuple[int, dict[str, Any]]]:
    """What is answered to bytes as they are, until the connection is ended."""
    with connect(server) as connection:
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        return answers(rest(connection))


def ask(server: Server, host: str = "127.0.0.1") -> int:
    """The status of an honest request with a connection of its own."""
    with connect(server, host) as connection:
        connection.sendall(HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY)
        ((status, _),) = answers(rest(connection))
        return status


# --- Heads


@pytest.mark.parametrize(
    "head",
    [
        (b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 33_000 + b"\r\n\r\n",),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: a\r\n" * 5000 + b"\r\n",),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", *[b"a" * 1_000_000] * 150),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: ", *[b"a" * 100_000] * 3),
    ],
    ids=["url", "header", "headers", "150 MB", "trailers"],
)
def test_a_head_that_is_too_long_is_431_at_once(poor: Server, head: tuple[bytes, ...]) -> None:
    ((status, problem),) = exchange(poor, *head)
    assert status == 431
    assert problem == {
        "error": "the request's head is too long",
        "field": None,
        "expected": "at most 32768 bytes",
        "found": "more",
    }


def test_a_head_below_the_bound_is_read(poor: Server) -> None:
    head = HEAD + LENGTH + b"X-A: " + b"a" * 32_000 + b"\r\nConnection: close\r\n\r\n"
    assert [status for status, _ in exchange(poor, head, BODY)] == [200]


@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"])
def test_what_is_not_http_is_refused_in_the_services_shape(poor: Server, sent: bytes) -> None:
    ((status, problem),) = exchange(poor, sent)
    assert (status, problem["error"]) == (400, "this is not a request in HTTP/1.1")
    assert problem.keys() == {"error", "field", "expected", "found"}


def test_a_half_sent_head_ends_in_its_time_however_slowly_it_comes(poor: Server) -> None:
    with connect(poor) as silent, connect(poor) as half, connect(poor) as slow:
        half.sendall(HEAD)
        begun = time.monotonic()
        with suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1000:
                slow.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - begun < 10
        assert rest(silent) == b""
        assert [status for status, _ in answers(rest(half))] == [408]


def test_garbage_after_a_request_does_not_take_the_place_of_its_answer(poor: Server) -> None:
    ((status, document),) = exchange(poor, HEAD + LENGTH + b"\r\n" + BODY + b"garbage\r\n\r\n")
    assert (status, len(document["predictions"])) == (200, 1)


def test_requests_sent_ahead_are_answered_in_turn_and_not_without_end(poor: Server) -> None:
    request = b"GET /v1/ensemble HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v1/ensemble HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert [status for status, _ in exchange(poor, request * 3 + last)] == [200] * 4
    assert [status for status, _ in exchange(poor, request * 1000)] == [200] * 17


# --- An Upgrade


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0, h2c"])
@pytest.mark.parametrize(
    "framed",
    [LENGTH + b"\r\n" + BODY, b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)],
    ids=["length", "chunked"],
)
def test_an_upgrade_is_ignored_and_the_body_read(poor: Server, protocol: bytes, framed: bytes) -> None:
    upgrade = (
        b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: " + protocol + b"\r\n"
    )
    last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    found = exchange(poor, HEAD + upgrade + framed + HEAD + upgrade, framed + last)
    assert [status for status, _ in found] == [200, 200, 404]


# --- Promises


def test_a_body_that_is_promised_takes_nobodys_place(poor: Server) -> None:
    with ExitStack() as promises:
        for _ in range(PLACES * 2):
            promises.enter_context(connect(poor)).sendall(HEAD + LENGTH + b"\r\n" + BODY[:1])
        assert [ask(poor) for _ in range(5)] == [200] * 5


def test_a_client_that_is_still_sending_can_read_why_it_is_refused(poor: Server) -> None:
    client = HTTPConnection("127.0.0.1", poor.port, timeout=20)
    client.request("POST", "/v1/predict/npy", b" " * 8_000_000, {"Content-Type": "application/x-npy"})
    answer = client.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"] == "the body is too long"
    client.close()


# --- Connections


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + LENGTH + b"\r\n"], ids=["idle", "half a head", "a promise"])
def test_silent_connections_lock_nobody_out(poor: Server, sent: bytes) -> None:
    with ExitStack() as silence:
        for number in range(MANY):
            with suppress(ConnectionError):
                silence.enter_context(connect(poor, f"127.0.0.{2 + number % 2}")).sendall(sent)
        assert [ask(poor), ask(poor, "127.0.0.2")] == [200, 200]


def test_a_request_at_work_outlives_any_number_of_connections(poor: Server, tmp_path: Path) -> None:
    publish(poor.models, 2, [FLAT, FLAT], work=100)
    with connect(poor) as busy, ExitStack() as silence:
        busy.sendall(HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY)
        for _ in range(MANY):
            with suppress(ConnectionError):
                silence.enter_context(connect(poor))
        assert [status for status, _ in answers(rest(busy))] == [200]


def test_every_line_of_the_log_is_json_and_has_a_time_and_a_level(poor: Server) -> None:
    exchange(poor, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n")
    text = poor.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger"} <= line.keys() for line in lines)
    assert max(map(len, text.splitlines())) < 16_000
    refused = [line for line in lines if line.get("status") == 431]
    assert refused
    assert refused[-1]["client"] == "127.0.0.1"
