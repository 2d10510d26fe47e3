"""Request bodies to images: judged by their headers before anything large is made of them.

Every function raises Refusal with what was found and what was expected.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serving.body import MAX_WITHDRAWN, JsonBody, WithdrawBody
from serving.ensemble.aggregation import Aggregation
from serving.pictures.bad import BadPicture
from serving.pictures.decoding import FORMATS, decode_header, read_header, resized
from serving.refusal import Refusal, cut, short

# Segments and chunks of a request's pictures together, looked at in a thread: a quarter of a second. 256 ordinary
# pictures have some thousand.
HEADER_BYTES = 512  # of a .npy file; numpy evaluates it, which takes long where it is long
MAX_PARTS = 2**15

Images = NDArray[np.uint8]
Shape = tuple[int, int, int]


def decode_json(body: bytes, shape: Shape, max_images: int) -> tuple[Images, Aggregation | None]:
    """``{"images": [...], "mode": ...}`` to ((N, H, W, 3) uint8, the mode if one is given)."""
    expected = _expected(shape, max_images)
    _check_amount(body, shape, max_images, expected)
    try:
        document = JsonBody.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors()
        misspelt = [problem for problem in problems if problem["type"] == "extra_forbidden"]  # says more than "missing"
        raise _refusal((misspelt or problems)[0], expected) from None
    _check_count(len(document.images), max_images)
    try:
        array = np.array(document.images, np.uint8)
    except ValueError:
        raise Refusal(400, "the lists are of unequal length", "images", expected, "a ragged array") from None
    if array.shape[1:] != shape:
        raise Refusal(400, "the images are of another shape", "images", expected, f"shape {_dims(array.shape)}")
    return array, document.mode


def decode_withdrawal(body: bytes) -> frozenset[str]:
    """``{"sha256": [...]}`` to the digests, in lower case."""
    expected = f'{{"sha256": [...]}}, 1 to {MAX_WITHDRAWN} digests of models, 64 hexadecimal digits each'
    try:
        return frozenset(digest.lower() for digest in WithdrawBody.model_validate_json(body).sha256)
    except ValidationError as error:
        problem = error.errors()[0]
        name = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in problem["loc"])
        found = problem["msg"] if problem["type"] == "json_invalid" else short(problem["input"])
        status = 413 if problem["type"] == "too_long" else 400
        raise Refusal(status, "the body is not a list of digests", short(name)[1:-1] or None, expected, found) from None


def _check_amount(body: bytes, shape: Shape, max_images: int, expected: str) -> None:
    """Before a value is made of it: lists and names take a hundred times their length, and time that stops all else."""
    height, width, _ = shape
    most = {
        "lists": (b"[", 1 + max_images * (1 + height * (1 + width))),
        "commas": (b",", max_images * math.prod(shape)),
        "colons": (b":", 16),
    }
    for name, (sign, limit) in most.items():
        if (found := body.count(sign)) > limit:
            raise Refusal(413, "the body holds more than the images allowed", "images", expected, f"{found} {name}")


def _refusal(problem: ErrorDetails, images: str) -> Refusal:
    """pydantic's first complaint, in the service's shape."""
    name = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in problem["loc"])
    field, found = short(name)[1:-1] or None, short(problem["input"])
    match problem["type"]:
        case "json_invalid":
            refusal = Refusal(400, "the body is not JSON", None, f'{{"images": {images}}}', problem["msg"])
        case "model_type":
            refusal = Refusal(400, "the body is not a JSON object", None, f'{{"images": {images}}}', found)
        case "extra_forbidden":
            refusal = Refusal(400, "there is no such field", field, "images, optionally mode", field)
        case "missing":
            refusal = Refusal(400, "a field is missing", field, images, "a body without it")
        case "literal_error":
            refusal = Refusal(400, "there is no such mode", field, "mean or vote", found)
        case "list_type":
            refusal = Refusal(400, "the images are of another shape", field, images, found)
        case _:
            refusal = Refusal(400, "a pixel is not a whole number from 0 to 255", field, images, found)
    return refusal


def decode_npy(body: bytes, shape: Shape, max_images: int) -> Images:
    """A .npy file to (N, H, W, 3) uint8, a view of the body; nothing in it is unpickled."""
    expected = f".npy, {_expected(shape, max_images)}"
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            found, fortran, dtype = np.lib.format.read_array_header_1_0(stream, HEADER_BYTES)
        elif version == (2, 0):
            found, fortran, dtype = np.lib.format.read_array_header_2_0(stream, HEADER_BYTES)
        else:
            raise ValueError(f"format version {version}")
        # True counts as an int, and one in hexadecimal may be too long to be written out.
        if not all(type(side) is int and abs(side) < 2**63 for side in found):
            raise ValueError("the shape is not made of lengths")
    except Exception as error:  # numpy evaluates the header's text: SyntaxError, TokenError, TypeError, …
        raise Refusal(400, "the body is not a .npy file", None, expected, short(str(error))) from None
    if dtype != np.uint8:
        raise Refusal(400, "the pixels are of another type", "dtype", expected, short(str(dtype)))
    if len(found) != 4 or found[1:] != shape:
        raise Refusal(400, "the images are of another shape", "shape", expected, f"shape {_dims(found)}")
    _check_count(found[0], max_images)
    size, rest = math.prod(found), len(body) - stream.tell()
    if size != rest:  # judged before an array is made
        raise Refusal(
            400, "the .npy header and its body disagree", "shape", f"{size} bytes of pixels", f"{rest} bytes of pixels"
        )
    flat = np.frombuffer(body, np.uint8, offset=stream.tell())
    return np.ascontiguousarray(flat.reshape(found[::-1]).T) if fortran else flat.reshape(found)


class Large(Exception):
    """Pictures that take longer to decode than they may here: about ``seconds``. ``pixels``: how many they have."""

    def __init__(self, files: Sequence[BinaryIO], pixels: int, seconds: float) -> None:
        super().__init__(f"{len(files)} pictures of {pixels} pixels take {seconds:.2f} s")
        self._files, self.pixels, self.seconds = files, pixels, seconds

    def contents(self) -> tuple[bytes, ...]:
        """Their files."""
        for file in self._files:
            file.seek(0)
        return tuple(file.read() for file in self._files)


def decode_files(files: Sequence[BinaryIO], shape: Shape, max_pixels: int, most_seconds: float = math.inf) -> Images:
    """Pictures to (N, H, W, 3) uint8; ``max_pixels``: what all of them together may have, as stored.

    Raises Large, before a pixel is decoded, where that takes more than about ``most_seconds``.
    """
    headers, left, parts = [], max_pixels, 0
    for number, file in enumerate(files):
        try:
            header = read_header(file, formats=FORMATS, max_pixels=left)
        except BadPicture as bad:
            raise _refused(number, bad) from None
        headers.append(header)
        left -= header.width * header.height
        parts += header.parts
        if parts > MAX_PARTS:
            expected = f"at most {MAX_PARTS} chunks and segments in all of them"
            raise Refusal(413, "the pictures have too many parts", f"images[{number}]", expected, "more")
    seconds = sum(header.seconds for header in headers)
    if seconds > most_seconds:
        raise Large(files, max_pixels - left, seconds)
    images = []
    for number, header in enumerate(headers):
        try:
            images.append(resized(decode_header(header), shape[:2]))
        except BadPicture as bad:
            raise _refused(number, bad) from None
    return np.stack(images)


def _refused(number: int, bad: BadPicture) -> Refusal:
    status = 413 if bad.too_large else 400
    return Refusal(status, bad.reason, f"images[{number}]", bad.expected, cut(bad.found))


def _check_count(count: int, max_images: int) -> None:
    if count < 1:
        raise Refusal(400, "there is no image", "images", f"1 to {max_images} images", f"{count} images")
    if count > max_images:
        raise Refusal(413, "there are too many images", "images", f"1 to {max_images} images", f"{count} images")


def _expected(shape: Shape, max_images: int) -> str:
    return f"uint8 of shape (N, {', '.join(map(str, shape))}), N from 1 to {max_images}"


def _dims(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
