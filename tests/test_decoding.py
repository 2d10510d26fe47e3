"""Request bodies to images, without a server; tests/test_service.py sends the same over HTTP."""

import io
import json
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from server import RED, encoded, npy, picture

from serving.decoding import decode_files, decode_json, decode_npy
from serving.refusal import Refusal

SHAPE = (2, 2, 3)
ZERO = [[[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]


def as_json(body: bytes, max_images: int = 3) -> NDArray[np.uint8]:
    return decode_json(body, SHAPE, max_images)[0]


def files(*contents: bytes, side: int = 2, max_pixels: int = 10_000) -> NDArray[np.uint8]:
    return decode_files([io.BytesIO(content) for content in contents], (side, side, 3), max_pixels)


def refused(decode: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode()
    assert caught.value.error
    assert caught.value.expected
    return caught.value


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(2), st.just(2), st.just(3))))
def test_json_and_npy_come_back_as_they_were_sent(images: NDArray[np.uint8]) -> None:
    assert (as_json(json.dumps({"images": images.tolist()}).encode()) == images).all()
    for array in (images, np.asfortranarray(images)):
        decoded = decode_npy(npy(array), SHAPE, 3)
        assert (decoded == images).all()
        assert decoded.flags.c_contiguous


def test_a_mode_in_json_is_passed_on() -> None:
    assert decode_json(json.dumps({"images": [ZERO], "mode": "vote"}).encode(), SHAPE, 1)[1] == "vote"
    assert decode_json(json.dumps({"images": [ZERO]}).encode(), SHAPE, 1)[1] is None


@pytest.mark.parametrize(
    ("body", "field", "found"),
    [
        (b"", None, "EOF"),
        (b"[]", None, "[]"),
        (b"\xff\xfe", None, "expected value"),
        (b"[" * 20, None, "EOF"),
        (b'{"a":' * 16, None, "EOF"),
        (b'{"mode": "mean"}', "images", "without it"),
        (b'{"images": null}', "images", "None"),
        (b'{"images": "http://127.0.0.1/x.png"}', "images", "http"),
        (b'{"images": []}', "images", "0 images"),
        (b'{"images": [[[[0, 0, 0]]]]}', "images", "shape (1, 1, 1, 3)"),
        (b'{"images": [5]}', "images[0]", "5"),
        (b'{"images": [[[0, 0], [0, 0]]]}', "images[0][0][0]", "0"),
        (b'{"images": [[[[[0]]]]]}', "images[0][0][0][0]", "[0]"),
        (json.dumps({"images": [ZERO], "model": "x"}).encode(), "model", "model"),
        (json.dumps({"images": [ZERO], "mode": "median"}).encode(), "mode", "'median'"),
        (json.dumps({"images": [[*ZERO, [[0, 0, 0]]]]}).encode(), "images", "ragged"),
    ],
)
def test_json_that_is_not_a_batch_of_images_is_refused_by_name(body: bytes, field: str | None, found: str) -> None:
    refusal = refused(lambda: as_json(body))
    assert (refusal.status, refusal.field) == (400, field)
    assert found in (refusal.found or "")


@pytest.mark.parametrize(
    "pixel", ["256", "-1", "0.5", "1.0", "NaN", "Infinity", "1e400", "true", "null", '"7"', "1" * 400]
)
def test_a_pixel_that_is_not_a_whole_number_from_0_to_255_is_named_with_its_place(pixel: str) -> None:
    body = json.dumps({"images": [ZERO, ZERO]}).replace("0", pixel, 1)
    refusal = refused(lambda: as_json(body.encode()))
    assert (refusal.status, refusal.field) == (400, "images[0][0][0][0]")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[" * 100_000, "100000 lists"),
        (b'{"images": [' + b"[]," * 1000 + b"[]]}", "1002 lists"),
        (b'{"images": [[[[' + b"0," * 1000 + b"0]]]]}", "1000 commas"),
        (b'{"images": [], "mode": {' + b'"a":0,' * 17 + b'"b":0}}', "20 colons"),
    ],
)
def test_what_cannot_be_pictures_is_counted_before_a_value_is_made_of_it(body: bytes, found: str) -> None:
    """16 MB of empty lists or of names would otherwise be gigabytes, and stop every other request for seconds."""
    refusal = refused(lambda: as_json(body))
    assert (refusal.status, refusal.field, refusal.found) == (413, "images", found)


@pytest.mark.parametrize("indent", [None, 4])
def test_as_many_images_as_allowed_are_never_too_much(indent: int | None) -> None:
    body = json.dumps({"images": [ZERO] * 3, "mode": "vote"}, indent=indent)
    assert as_json(body.encode()).shape == (3, *SHAPE)


def test_more_images_than_allowed_are_refused() -> None:
    assert refused(lambda: as_json(json.dumps({"images": [ZERO] * 4}).encode())).status == 413
    assert refused(lambda: decode_npy(npy(np.zeros((4, *SHAPE), np.uint8)), SHAPE, 3)).status == 413


@pytest.mark.parametrize(
    ("array", "field", "found"),
    [
        (np.zeros((1, 2, 2, 3), np.float32), "dtype", "float32"),
        (np.zeros((1, 2, 2, 3), bool), "dtype", "bool"),
        (np.zeros((2, 2, 3), np.uint8), "shape", "(2, 2, 3)"),
        (np.zeros((1, 3, 2, 2), np.uint8), "shape", "(1, 3, 2, 2)"),
        (np.zeros((0, 2, 2, 3), np.uint8), "images", "0 images"),
        (np.array([{"a": 1}]), "dtype", "object"),
    ],
)
def test_an_npy_of_another_kind_is_refused(array: NDArray[np.generic], field: str, found: str) -> None:
    refusal = refused(lambda: decode_npy(npy(array), SHAPE, 3))
    assert (refusal.status, refusal.field) == (400, field)
    assert found in (refusal.found or "")


def header(text: str) -> bytes:
    body = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


def test_a_long_npy_header_is_refused_before_it_is_evaluated() -> None:
    header = b"(" * 9900 + b"\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    refusal = refused(lambda: decode_npy(body, SHAPE, 3))
    assert (refusal.status, "Header info length (9901) is large" in str(refusal.found)) == (400, True)
    assert len(str(refusal.found)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04",
        b"\x80\x04\x95",  # a bare pickle
        npy(np.zeros((1, *SHAPE), np.uint8))[:-1],
        npy(np.zeros((1, *SHAPE), np.uint8)) + b"x",
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2, 3)}") + bytes(12),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 2, 2, 3)}") + bytes(12),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2, 2, 3)}") + bytes(12),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 2, 2, 3)}") + bytes(12),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (0x" + "f" * 4000 + ", 2, 2, 3)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (0x" + "f" * 4000 + ", 9, 2, 3)}"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2, 2, 3)}") + bytes(12),
        header("__import__('os').getcwd()"),
        header("{'descr': '|u1', 'fortran_order': False}"),
        header("((((((((((((((((((((((((((((((((("),
        b"\x93NUMPY\x09\x00" + bytes(100),
    ],
)
def test_a_lying_or_broken_npy_is_refused(body: bytes) -> None:
    assert refused(lambda: decode_npy(body, SHAPE, 3)).status in (400, 413)


def test_pictures_become_one_batch_in_their_order() -> None:
    grey = encoded(np.full((8, 8, 3), 200, np.uint8))
    decoded = files(encoded(picture(RED, 8)), grey, encoded(picture(RED, 8), "WEBP", lossless=True))
    assert decoded.shape == (3, 2, 2, 3)
    assert (decoded[[0, 2]] == RED).all()
    assert (decoded[1] == 200).all()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "begins with b''"),
        (b"http://127.0.0.1/picture.png", "begins with"),
        (encoded(picture(RED), "BMP"), "begins with"),
        (encoded(picture(RED, 64))[:60], "bytes too few"),
    ],
)
def test_a_bad_picture_is_refused_by_its_number(content: bytes, found: str) -> None:
    refusal = refused(lambda: files(encoded(picture(RED)), content))
    assert (refusal.status, refusal.field) == (400, "images[1]")
    assert found in (refusal.found or "")


def test_what_a_picture_holds_is_told_in_a_few_words() -> None:
    lengthy = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0" + b"\0" * 5000
    assert len(refused(lambda: files(lengthy)).found or "") <= 81


def test_the_limit_on_pixels_is_for_all_pictures_of_a_request_together() -> None:
    content = encoded(picture(RED, 10))
    assert len(files(content, content, max_pixels=200)) == 2
    refusal = refused(lambda: files(content, content, max_pixels=199))
    assert (refusal.status, refusal.field) == (413, "images[1]")


def test_many_pictures_of_many_parts_are_refused_before_all_of_them_were_looked_at() -> None:
    """One picture may have 4,096 chunks, and 16 MB hold 256 such pictures: ten seconds of looking at their headers."""
    content = encoded(picture(RED, 8))
    end = content.index(b"IDAT") - 4
    empty = struct.pack(">I4sI", 0, b"tEXt", 0)
    crowded = content[:end] + empty * 3_997 + content[end:]  # with IHDR, IDAT and IEND 4,000
    assert len(files(*[crowded] * 8)) == 8
    refusal = refused(lambda: files(*[crowded] * 80))
    assert (refusal.status, refusal.field) == (413, "images[8]")


@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused_and_never_an_error(content: bytes, as_png: bool) -> None:
    prefix = encoded(picture(RED))[:40] if as_png else b"\x93NUMPY\x01\x00"
    assert refused(lambda: files(prefix + content)).status in (400, 413)
    assert refused(lambda: decode_npy(prefix + content, SHAPE, 3)).status in (400, 413)
    assert refused(lambda: as_json(content)).status in (400, 413)
