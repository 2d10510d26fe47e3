"""What a picture's header says, before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

STILL = "one still picture, 8 bits a channel, RGB or grey"


@dataclass(frozen=True)
class Header:
    """A picture that was recognised and is not decoded yet.

    ``width`` and ``height`` are as stored, before the EXIF turns it. ``exif``: the bytes of a TIFF file, or
    nothing. ``decode`` gives its pixels in mode RGB, RGBX (RGB and a byte nobody reads) or RGBA; whatever
    it raises says that the picture is damaged. ``seconds``: about what that takes one core, judged by what
    the header and the markers say; measured on one of 2024, and right to a factor of two or so. ``parts``: the
    segments or chunks that had to be looked at for this, some microseconds each.
    """

    width: int
    height: int
    exif: bytes
    decode: Callable[[], Image.Image]
    seconds: float
    parts: int = 1
