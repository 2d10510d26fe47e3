"""From a request to its body: the query, the content type, the form, and what is left to decode.

Every function raises Refusal with what was found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.decoding import Images, Shape, decode_files, decode_json, decode_npy
from serving.ensemble.aggregation import AGGREGATIONS, Aggregation
from serving.refusal import Refusal, short
from serving.settings import Settings

INLINE_BYTES = 64 * 1024  # a longer body is decoded in a thread, so that other requests need not wait
CHEAP = 0.02  # seconds of decoding that a thread may take; handing more to a process costs less than 2% of it

# A part's name and text would be decoded with whatever codec the caller names; punycode takes minutes for a megabyte.
FOREIGN_CHARSET = re.compile(r'charset(?!="?utf-8"?\s*(;|$))', re.IGNORECASE)


@dataclass(frozen=True)
class Body:
    """A body that has arrived.

    ``decode``: from the shape of the ensemble's images to the images, and the mode if the body names one; of
    pictures that take longer than a thread may, which cannot be stopped, it raises Large. ``quick``: whether it takes
    so little that it may be done between two other requests. ``mode``: what a form names.
    """

    decode: Callable[[Shape], tuple[Images, Aggregation | None]]
    quick: bool
    mode: Aggregation | None = None


async def read_json(request: Request, settings: Settings) -> Body:
    """``POST /v1/predict``."""
    check_content_type(request, "application/json")
    body = await request.body()
    decode = partial(decode_json, body, max_images=settings.max_images)
    return Body(decode, quick=len(body) <= INLINE_BYTES)


async def read_npy(request: Request, settings: Settings) -> Body:
    """``POST /v1/predict/npy``."""
    check_content_type(request, "application/x-npy", "application/octet-stream")
    body = await request.body()
    return Body(lambda shape: (decode_npy(body, shape, settings.max_images), None), quick=True)


async def read_files(request: Request, settings: Settings) -> Body:
    """``POST /v1/predict/image``."""
    check_content_type(request, "multipart/form-data")
    files, mode = check_form(await parse_form(request, settings.max_images))
    opened: list[BinaryIO] = [file.file for file in files]
    return Body(lambda shape: (decode_files(opened, shape, settings.max_pixels, CHEAP), mode), quick=False, mode=mode)


def check_mode(mode: str) -> Aggregation:
    for known in AGGREGATIONS:
        if mode == known:
            return known
    raise Refusal(400, "there is no such mode", "mode", "mean or vote", short(mode))


def check_query(request: Request, known: tuple[str, ...]) -> Aggregation | None:
    """The mode in the query, if there is one."""
    mode = None
    for name, value in request.query_params.multi_items():
        if name not in known or mode is not None:
            allowed = f"{', '.join(known)}, once" if known else "none"
            raise Refusal(400, "there is no such query parameter", short(name)[1:-1], allowed, short(f"{name}={value}"))
        mode = check_mode(value)
    return mode


def check_content_type(request: Request, *allowed: str) -> None:
    given = request.headers.get("content-type", "")
    if given.split(";")[0].strip().lower() not in allowed:
        raise Refusal(
            415,
            "another content type is expected",
            "Content-Type",
            " or ".join(allowed),
            short(given) if given else "none",
        )


class FormParser(MultiPartParser):
    """Starlette's; ``ended`` says whether the closing boundary has come, without which a form is not complete."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def parse_form(request: Request, max_images: int) -> FormData:
    """Raises Refusal also when the form is not complete: what is missing at its end would go unnoticed."""
    expected = "multipart/form-data with picture files in the field images"
    if FOREIGN_CHARSET.search(request.headers["content-type"]):
        given = short(request.headers["content-type"])
        raise Refusal(415, "another character set is expected", "Content-Type", "utf-8, or none named", given)
    try:
        parser = FormParser(request.headers, request.stream(), max_files=max_images, max_fields=1)
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        if str(error).startswith("Too many files"):
            raise Refusal(413, "there are too many images", "images", f"1 to {max_images} images", str(error)) from None
        raise Refusal(400, "the form is malformed", None, expected, short(str(error))) from None
    if not parser.ended:
        await form.close()
        raise Refusal(400, "the form is malformed", None, expected, "no closing boundary")
    return form


def check_form(form: FormData) -> tuple[list[UploadFile], Aggregation | None]:
    """The files of the field ``images``, and the mode if the field ``mode`` names one."""
    files: list[UploadFile] = []
    mode = None
    for name, value in form.multi_items():
        if name == "images":
            if isinstance(value, str):
                raise Refusal(400, "the field holds no file", "images", "files, each with a filename", short(value))
            files.append(value)
        elif name == "mode":
            if not isinstance(value, str):
                raise Refusal(400, "the field holds a file", "mode", "mean or vote", short(value.filename))
            mode = check_mode(value.strip('"'))  # BentoML's client sends it as JSON
        else:
            raise Refusal(400, "there is no such field", short(name)[1:-1], "images, optionally mode", short(name))
    if not files:
        raise Refusal(400, "a field is missing", "images", "one or more picture files", "none")
    return files, mode
