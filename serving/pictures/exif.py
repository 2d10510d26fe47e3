"""The orientation in EXIF, and nothing else of it."""

from __future__ import annotations

import struct

from PIL import Image

ORIENTATION = 0x0112

# How the stored picture is turned to be seen upright (EXIF 2.32, section 4.6.4 A, Orientation).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes) -> int:
    """1 to 8; 1, as stored, also where EXIF is missing, damaged or holds another value.

    ``exif``: the bytes of a TIFF file, with or without the words ``Exif\\0\\0`` before it. Only the first
    directory is read: Pillow would read all of it, and warn of what is wrong with the rest.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * number)
            if tag == ORIENTATION:
                return value if (kind, count) == (3, 1) and value in TURNS else 1
    except struct.error:
        pass
    return 1


def upright(image: Image.Image, exif: bytes) -> Image.Image:
    """The image turned as its EXIF says; the same object where nothing is to be turned."""
    turn = TURNS.get(orientation(exif))
    return image if turn is None else image.transpose(turn)
