"""From a file to an image of the size that the networks take: see docs/pictures.md."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.WebPImagePlugin import WebPImageFile

from serving.pictures import jpeg, png
from serving.pictures.bad import BadPicture
from serving.pictures.exif import upright
from serving.pictures.header import STILL, Header

FORMATS = ("PNG", "JPEG", "WEBP")  # in requests
TRAINING_FORMATS = (*FORMATS, "BMP")
BACKGROUND = (255, 255, 255)  # what a transparent pixel shows: white
MAX_SIDE = 65_535  # JPEG's own; resizing takes 16 bytes for each pixel of a side
MAX_PIXELS = 178_956_970  # Pillow's own limit: half a gigabyte in RGB


def decode_upright(file: BinaryIO, *, formats: Sequence[str], max_pixels: int | None = None) -> Image.Image:
    """A picture, read from the beginning of ``file``, in its full size and in mode RGB or RGBX.

    It is turned upright by its EXIF and put on a white background where it is transparent. ``formats``:
    the names among TRAINING_FORMATS that are read. ``max_pixels``: a larger picture is refused by its
    header, before a pixel is decoded; none means MAX_PIXELS.

    Raises BadPicture when the file is of another format, animated, of more than 8 bits a channel, neither
    RGB nor grey, damaged or not complete (rows that are missing, data that end too early, checksums that
    are wrong), too large, or made to take long: of a great many parts, or passes over the same pixels.
    Metadata that no pixel depends on may be as broken and as large as they like.
    """
    return decode_header(read_header(file, formats=formats, max_pixels=max_pixels))


def read_header(file: BinaryIO, *, formats: Sequence[str], max_pixels: int | None = None) -> Header:
    """A picture that is not decoded yet; parameters and errors are those of ``decode_upright``."""
    file.seek(0)
    content = file.read()
    most = MAX_PIXELS if max_pixels is None else min(max_pixels, MAX_PIXELS)
    try:
        header = _read_header(content, formats)
    except (BadPicture, MemoryError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, EOFError, …
        raise _damaged(error) from error
    if header.width * header.height > most or max(header.width, header.height) > MAX_SIDE:
        limit, found = f"at most {most} pixels, {MAX_SIDE} a side", f"{header.width} × {header.height}"
        raise BadPicture("the picture is too large", limit, found, too_large=True)
    return header


def decode_header(header: Header) -> Image.Image:
    """The picture in its full size, upright, in mode RGB or RGBX. Raises BadPicture when it is damaged."""
    try:
        picture = _on_background(header.decode())
    except (BadPicture, MemoryError):
        raise
    except Exception as error:  # as above
        raise _damaged(error) from error
    return upright(picture, header.exif)


def _damaged(error: Exception) -> BadPicture:
    return BadPicture("the picture is damaged", STILL, str(error))


def resized(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Any picture in mode RGB or RGBX as an (H, W, 3) uint8 image of ``size``, (height, width).

    The largest box of the size's proportions is taken from the centre, to a fraction of a pixel, and scaled
    in one step by Pillow's BILINEAR, which averages over all pixels where it makes the picture smaller.
    For a square size: the shorter side is scaled to it and what is over at the longer one is cut off, half
    on each end. A picture that has the size is left as it is.
    """
    height, width = size
    if picture.size != (width, height):
        box_width = min(picture.width, picture.height * width / height)
        box_height = min(picture.height, picture.width * height / width)
        left, top = (picture.width - box_width) / 2, (picture.height - box_height) / 2
        box = (left, top, picture.width - left, picture.height - top)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture.convert("RGB"), np.uint8)


def _read_header(content: bytes, formats: Sequence[str]) -> Header:
    for name, (known, read) in READERS.items():
        if name in formats and known(content):
            return read(content)
    raise BadPicture(
        "unsupported picture format",
        f"{', '.join(formats[:-1])} or {formats[-1]}",
        f"a file that begins with {content[:16]!r}",
    )


def _read_webp(content: bytes) -> Header:
    image = WebPImageFile(io.BytesIO(content))
    if image.n_frames > 1:
        raise BadPicture("the picture is animated", STILL, f"{image.n_frames} frames")

    def decode() -> Image.Image:
        image.load()
        return image

    seconds = image.width * image.height * 27e-9 + len(content) * 60e-9
    return Header(image.width, image.height, image.info.get("exif", b""), decode, seconds)


def _read_bmp(content: bytes) -> Header:
    image = BmpImageFile(io.BytesIO(content))
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    return Header(image.width, image.height, b"", lambda: image.convert(mode), image.width * image.height * 10e-9)


READERS: dict[str, tuple[Callable[[bytes], bool], Callable[[bytes], Header]]] = {
    "PNG": (lambda content: content.startswith(png.SIGNATURE), png.read_png),
    "JPEG": (lambda content: content.startswith(jpeg.SIGNATURE), jpeg.read_jpeg),
    "WEBP": (lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP", _read_webp),
    "BMP": (lambda content: content.startswith(b"BM"), _read_bmp),
}


def _on_background(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    canvas = Image.new("RGB", picture.size, BACKGROUND)
    canvas.paste(picture, mask=picture)
    return canvas
