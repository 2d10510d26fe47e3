"""The bytes of bodies at work have a budget, and a client its share of it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from server import FLAT, RED, Server, encoded, picture, publish

from serving.bodies import Bodies
from serving.refusal import Refusal


class Upload:
    """A request of ``client``; ``ended``: whether it gave way."""

    def __init__(self, client: str, *, complete: bool = True) -> None:
        self.client, self.complete = client, complete
        self.held, self.ended = 0, False

    def give_way(self) -> None:
        self.ended = True


def test_all_clients_together_and_each_of_them_have_a_budget_that_comes_back() -> None:
    bodies, a, b, c, d = Bodies(most=100, largest=20), *map(Upload, "abcd")
    bodies.hold(a, 50)
    with pytest.raises(Refusal, match="too many bytes") as refused:
        bodies.hold(a, 1)
    assert refused.value.status == 429
    bodies.hold(b, 40)
    bodies.hold(c, 10)
    with pytest.raises(Refusal, match="too many bytes"):
        bodies.hold(d, 1)
    bodies.release(a)
    bodies.hold(d, 50)
    assert (a.held, d.held) == (0, 50)


def test_one_body_of_the_largest_size_always_fits() -> None:
    Bodies(most=100, largest=90).hold(Upload("a"), 90)
    Bodies(most=100, largest=200).hold(Upload("a"), 200)


def test_what_is_still_arriving_gives_way_to_who_holds_less_the_greediest_and_oldest_first() -> None:
    bodies = Bodies(most=100, largest=20)
    first, second, done = (Upload("a", complete=each) for each in (False, False, True))
    other, small = Upload("b", complete=False), Upload("c")
    for upload, size in ((first, 20), (second, 20), (done, 10), (other, 45)):
        bodies.hold(upload, size)
    bodies.hold(small, 10)
    assert [each.ended for each in (first, second, done, other)] == [True, False, False, False]
    assert (first.held, small.held) == (0, 10)
    bodies.release(first)  # it ends itself, too
    bodies.hold(small, 15)
    bodies.hold(small, 5)  # 30 of a, 45 of b, 30 of c do not fit: b has most
    assert [each.ended for each in (second, done, other)] == [False, False, True]
    with pytest.raises(Refusal, match="too many bytes"):
        bodies.hold(Upload("d"), 50)  # nobody holds more than that


def post(client: str, port: int, length: int, sent: int) -> socket.socket:
    """A body that has not arrived whole."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(client, 0))
    kind = "Content-Type: application/json"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + b" " * sent)
    return connection


def test_bodies_above_the_budget_are_429_until_others_are_done(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT])
    small = [("images", ("p", encoded(picture(RED))))]
    with Server(tmp_path, max_body_bytes=60_000, max_bytes_at_work=60_000) as running, running.client() as client:
        running.wait(lambda: running.status("/readyz") == 200)
        with post("127.0.0.1", running.port, 60_000, 59_990):
            running.wait(lambda: client.post("/v1/predict/image", files=small).status_code == 429)
        running.wait(lambda: client.post("/v1/predict/image", files=small).status_code == 200)


@pytest.mark.heavy
def test_clients_that_send_all_but_the_end_lock_nobody_out(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT])
    small = [("images", ("p", encoded(picture(RED))))]
    with Server(tmp_path, max_body_bytes=60_000, max_bytes_at_work=120_000) as running, running.client() as client:
        running.wait(lambda: running.status("/readyz") == 200)
        holders = [post(f"127.0.0.{number}", running.port, 60_000, 59_990) for number in (2, 3)]
        time.sleep(0.5)  # until they are here
        answers = [client.post("/v1/predict/image", files=small).status_code for _ in range(20)]
        assert answers == [200] * 20
        ended = [connection.recv(4096) for connection in holders[:1]]
        assert ended[0].startswith(b"HTTP/1.1 408")
        for connection in holders:
            connection.close()
