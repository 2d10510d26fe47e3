"""Request bodies to pictures: judged by their headers before anything large is made of them.

Every function raises Refusal with what was found and what was expected; N images, H = W their side.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Annotated, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import ErrorDetails

from serving.ensemble import Aggregation
from serving.refusal import Refusal, short

Pictures = NDArray[np.uint8]
Shape = tuple[int, int, int]

FORMATS = ("PNG", "JPEG", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # 8 bits a channel or fewer, in RGB or grey
MAX_SIDE = 65_535  # JPEG's own; resizing takes 16 bytes for each pixel of a side

Pixel = Annotated[int, Field(strict=True, ge=0, le=255)]
Row = Annotated[list[Annotated[list[Pixel], FailFast()]], FailFast()]


class JsonBody(BaseModel):
    """``POST /v1/predict``: uint8 pictures as lists (N, H, W, 3)."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Annotated[list[Row], FailFast()]], FailFast()]
    mode: Aggregation | None = None


def decode_json(body: bytes, shape: Shape, max_images: int) -> tuple[Pictures, Aggregation | None]:
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
            raise Refusal(413, "this is more than the images there may be", "images", expected, f"{found} {name}")


def _refusal(problem: ErrorDetails, images: str) -> Refusal:
    """pydantic's first complaint, in the service's shape."""
    name = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in problem["loc"])
    field, found = short(name)[1:-1] or None, short(problem["input"])
    match problem["type"]:
        case "json_invalid":
            refusal = Refusal(400, "the body is not JSON", None, f'{{"images": {images}}}', problem["msg"])
        case "model_type":
            refusal = Refusal(400, "the body is no JSON object", None, f'{{"images": {images}}}', found)
        case "extra_forbidden":
            refusal = Refusal(400, "there is no such field", field, "images, and mode if you like", field)
        case "missing":
            refusal = Refusal(400, "a field is missing", field, images, "a body without it")
        case "literal_error":
            refusal = Refusal(400, "there is no such mode", field, "mean or vote", found)
        case "list_type":
            refusal = Refusal(400, "the images are of another shape", field, images, found)
        case _:
            refusal = Refusal(400, "a pixel is no whole number from 0 to 255", field, images, found)
    return refusal


def decode_npy(body: bytes, shape: Shape, max_images: int) -> Pictures:
    """A .npy file to (N, H, W, 3) uint8, a view of the body; nothing in it is unpickled."""
    expected = f".npy, {_expected(shape, max_images)}"
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            found, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"format version {version}")
        # True counts as an int, and one in hexadecimal may be too long to be written out.
        if not all(type(side) is int and abs(side) < 2**63 for side in found):
            raise ValueError("the shape is not made of lengths")
    except Exception as error:  # numpy evaluates the header's text: SyntaxError, TokenError, TypeError, …
        raise Refusal(400, "the body is no .npy file", None, expected, short(str(error))) from None
    if dtype != np.uint8:
        raise Refusal(400, "the pixels are of another type", "dtype", expected, str(dtype))
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


def decode_files(files: Sequence[BinaryIO], shape: Shape, max_pixels: int) -> Pictures:
    """Picture files to (N, H, W, 3) uint8; ``max_pixels``: of all of them together, as they come."""
    pictures = []
    for number, file in enumerate(files):
        picture, pixels = decode_picture(file, f"images[{number}]", shape, max_pixels)
        pictures.append(picture)
        max_pixels -= pixels
    return np.stack(pictures)


def decode_picture(file: BinaryIO, field: str, shape: Shape, max_pixels: int) -> tuple[Pictures, int]:
    """One PNG, JPEG or WEBP file to (H, W, 3) uint8, turned upright and resized as in training.

    Also gives the number of pixels it had.
    """
    expected = "one still PNG, JPEG or WEBP picture, 8 bits a channel, RGB or grey"
    file.seek(0)
    head = file.read(32)
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as image:  # the header only; no pixel is decoded yet
            pixels = image.width * image.height
            if pixels > max_pixels or max(image.size) > MAX_SIDE:
                most, size = f"at most {max_pixels} more pixels, {MAX_SIDE} a side", f"{image.width} × {image.height}"
                raise Refusal(413, "the picture is too large", field, most, size)
            if image.format == "PNG" and head[12:16] != b"IHDR":
                raise ValueError("its first chunk is not IHDR")  # Pillow looks for it further on
            # Pillow reads 16 bits a channel as 8; PNG's header says how many there are.
            depth = head[24] if image.format == "PNG" else 8
            if depth > 8 or image.mode not in MODES:
                found = f"{depth} bits a channel" if depth > 8 else f"colours of mode {image.mode}"
                raise Refusal(400, "the picture's pixels are of another kind", field, expected, found)
            # A camera's JPEG with a preview beside it (MPO) is a still picture nevertheless.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise Refusal(400, "the picture is animated", field, expected, f"{image.n_frames} frames")  # type: ignore[attr-defined]
            # Both would copy a picture that needs neither; a large one is 4 bytes a pixel.
            ImageOps.exif_transpose(image, in_place=True)
            picture = image if image.mode == "RGB" else image.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refusal(
            413, "the picture is too large", field, f"at most {max_pixels} pixels", short(str(error))
        ) from None
    except UnidentifiedImageError:
        found = f"a file that begins with {head[:16]!r}"
        raise Refusal(400, "the file is no PNG, JPEG or WEBP", field, expected, found) from None
    except Refusal:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, EOFError, …
        raise Refusal(400, "the file is no readable picture", field, expected, short(str(error))) from None
    height, width, _ = shape
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8), pixels


def _check_count(count: int, max_images: int) -> None:
    if count < 1:
        raise Refusal(400, "there is no image", "images", f"1 to {max_images} images", f"{count} images")
    if count > max_images:
        raise Refusal(413, "there are too many images", "images", f"1 to {max_images} images", f"{count} images")


def _expected(shape: Shape, max_images: int) -> str:
    return f"uint8 of shape (N, {', '.join(map(str, shape))}), N from 1 to {max_images}"


def _dims(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
