"""Bytes that nobody would write: decoders and heads end in an answer or a refusal, in bounded time, and go on."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from server import FLAT, RED, Server, npy, picture, publish

from serving.pictures.bad import BadPicture
from serving.pictures.decoding import TRAINING_FORMATS, decode_header, read_header

pytestmark = pytest.mark.heavy

SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 17, 3), np.uint8))
MOST_SECONDS = 2.0  # of one picture, on a machine that has other work; those here take a millisecond


def seeds() -> list[bytes]:
    """One whole picture of every kind: what is changed is close to what a decoder reads to its end."""
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("PNG", SMALL, {}),
        ("PNG", SMALL.convert("P"), {"transparency": 3}),
        ("PNG", SMALL.convert("RGBA"), {}),
        (
            "JPEG",
            SMALL,
            {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"},
        ),
        ("JPEG", SMALL, {"subsampling": "4:2:0", "restart_marker_blocks": 1}),
        ("JPEG", SMALL.convert("L"), {}),
        ("WEBP", SMALL, {"lossless": True}),
        ("WEBP", SMALL.convert("RGBA"), {}),
        ("BMP", SMALL, {}),
    ]
    return [saved(kind, image, **options) for kind, image, options in kinds]


def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def changed(base: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """``base`` with some bytes replaced, and a part of it left out, repeated or put elsewhere."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        content = bytearray(draw(base))
        for _ in range(draw(st.integers(0, 4))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, len(content)))
        part, times = bytes(content[start:stop]), draw(st.sampled_from([0, 1, 1, 1, 2, 50]))
        return bytes(content[:start]) + part * times + bytes(content[stop:])

    return draw_one()


@seed(20261126)
@settings(max_examples=4000, deadline=None, database=None)
@given(changed(st.sampled_from(seeds())))
def test_a_decoder_ends_in_an_image_or_a_refusal(content: bytes) -> None:
    begun = time.process_time()
    try:
        header = read_header(io.BytesIO(content), formats=TRAINING_FORMATS, max_pixels=1_000_000)
        image = decode_header(header)
    except BadPicture:
        pass
    else:
        assert image.mode in ("RGB", "RGBX")
        assert image.width * image.height == header.width * header.height
    assert time.process_time() - begun < MOST_SECONDS


BODY = npy(picture(RED)[None])
HEAD = (
    b"POST /v1/predict/npy?mode=vote HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nX-Request-Id: a\r\n"
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)
CHUNKED = (
    b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    b'Expect: 100-continue\r\n\r\ne\r\n{"images": []}\r\n0\r\nX-Trailer: 1\r\n\r\n'
)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzzed")
    publish(folder / "models", 1, [FLAT])
    with Server(folder, head_seconds=0.3, timeout_seconds=2) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def test_a_head_ends_in_an_answer_and_the_next_request_is_answered(patient: Server) -> None:
    @seed(20261126)
    @settings(max_examples=400, deadline=None, database=None)
    @given(changed(st.sampled_from([HEAD + BODY, CHUNKED, HEAD + BODY + CHUNKED])))
    def send(content: bytes) -> None:
        with socket.create_connection(("127.0.0.1", patient.port), timeout=10) as connection:
            with suppress(ConnectionError):
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            received = b""
            with suppress(ConnectionError):
                while part := connection.recv(65536):
                    received += part
        assert not received or received.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 1"))

    send()
    with patient.client() as client:
        answer = client.post("/v1/predict/npy", content=BODY, headers={"content-type": "application/x-npy"})
    assert answer.status_code == 200
    assert "Traceback" not in patient.log.read_text()
    assert patient.process.poll() is None
