"""The bytes of bodies at work have a budget, and a client its share of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from server import FLAT, RED, Server, encoded, picture, publish

from serving.bodies import Bodies
from serving.refusal import Refusal


def test_all_clients_together_and_each_of_them_have_a_budget_that_comes_back() -> None:
    bodies = Bodies(most=100, largest=20)
    bodies.hold("a", 50)
    with pytest.raises(Refusal, match="too many bytes") as refused:
        bodies.hold("a", 1)
    assert refused.value.status == 429
    bodies.hold("b", 40)
    bodies.hold("c", 10)
    with pytest.raises(Refusal, match="too many bytes"):
        bodies.hold("d", 1)
    bodies.release("a", 50)
    bodies.hold("d", 50)


def test_one_body_of_the_largest_size_always_fits() -> None:
    Bodies(most=100, largest=90).hold("a", 90)
    Bodies(most=100, largest=200).hold("a", 200)


def test_bodies_above_the_budget_are_429_until_others_are_done(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT])
    small = encoded(picture(RED))
    with Server(tmp_path, max_body_bytes=60_000, max_bytes_at_work=60_000) as running, running.client() as client:
        running.wait(lambda: running.status("/readyz") == 200)
        with socket.create_connection(("127.0.0.1", running.port)) as held:
            kind, length = "Content-Type: application/json", "Content-Length: 60000"
            head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\n{kind}\r\n{length}\r\n\r\n"
            held.sendall(head.encode() + b" " * 59_990)
            running.wait(lambda: client.post("/v1/predict/image", files=[("images", ("p", small))]).status_code == 429)
        running.wait(lambda: client.post("/v1/predict/image", files=[("images", ("p", small))]).status_code == 200)
