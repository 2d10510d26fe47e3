"""PNG: the chunks that make pixels, verified, and no other.

Pillow would read every chunk, refuse large texts and profiles, take 16 bits for 8, and leave rows black
that a short stream does not hold.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from serving.pictures.bad import BadPicture
from serving.pictures.header import STILL, Header

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, 4: 2, 6: 4}  # colour type to channels
ALPHA = (4, 6)
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Adam7, the passes of an interlaced picture: first column and row, steps between them (PNG 3, section 8.1).
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
AT_ONCE = 2**20  # bytes inflated at once
# Ordinary pictures have one for each 8 kB; small files for each row. Each takes microseconds, 16 MB hold a million.
MAX_CHUNKS, BYTES_A_CHUNK = 2**12, 2**11


def read_png(content: bytes) -> Header:
    """Raises BadPicture when the chunks are not those of one whole still picture of 8 bits a channel or fewer."""
    chunks = list(_chunks(content))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise BadPicture("the picture is damaged", "IHDR as the first chunk", repr(chunks[0][0] if chunks else b""))
    width, height, depth, colour, packing, filters, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if colour not in CHANNELS:
        raise BadPicture("the picture is damaged", "a colour type of PNG", str(colour))
    if (packing, filters) != (0, 0) or interlaced > 1:
        methods = f"compression {packing}, filters {filters}, interlacing {interlaced}"
        raise BadPicture("the picture is damaged", "the methods of PNG: 0, 0, and 0 or 1", methods)
    if depth > 8:
        raise BadPicture("unsupported bit depth or colour mode", STILL, f"{depth} bits a channel")
    data, exif, transparent, colours = [], b"", b"", 0
    for kind, body, _ in chunks:
        if kind == b"IDAT":
            data.append(body)
        elif kind == b"eXIf":
            exif = bytes(body)
        elif kind == b"PLTE":
            colours = _colours(len(body), known=colours)
        elif kind == b"tRNS":
            transparent = bytes(body)
        elif kind == b"acTL" and not data and len(body) >= 4 and (frames := struct.unpack_from(">I", body)[0]) > 1:
            raise BadPicture("the picture is animated", STILL, f"{frames} frames")
    if colour == PALETTE and not colours:
        raise BadPicture("the picture is damaged", "a palette", "none")
    longest = {GREY: 2, RGB: 6, PALETTE: colours}.get(colour, 0)
    if len(transparent) > longest or (transparent and colour != PALETTE and len(transparent) != longest):
        raise BadPicture("the picture is damaged", f"a tRNS of {longest} bytes", f"{len(transparent)} bytes")

    def decode() -> Image.Image:
        _check_rows(data, _size(width, height, depth * CHANNELS[colour], bool(interlaced)))
        # Colours of which one is transparent are compared below: Pillow does not scale grey of fewer bits.
        kept = [whole for kind, _, whole in chunks if kind in PIXELS and (kind != b"tRNS" or colour == PALETTE)]
        image: Image.Image = PngImageFile(io.BytesIO(SIGNATURE + b"".join(kept)))
        image.load()
        if colour == PALETTE and (most := int(np.asarray(image).max())) >= colours:
            raise BadPicture("the picture is damaged", f"pixels of the palette's {colours} colours", f"number {most}")
        mode = "RGBA" if image.mode in ("LA", "RGBA") or "transparency" in image.info else "RGB"
        image = image if image.mode == mode else image.convert(mode)  # a large one is 4 bytes a pixel
        if masked:
            image.putalpha(_alpha(image, transparent, depth))
        return image

    masked = bool(transparent) and colour in (GREY, RGB)
    each = 14e-9 + 8e-9 * (colour in ALPHA or bool(transparent)) + 30e-9 * masked
    seconds = width * height * each + len(content) * 40e-9 + len(chunks) * 7e-6
    return Header(width, height, exif, decode, seconds, len(chunks))


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Kind, body and the whole of every chunk up to IEND; what follows it is ignored.

    Checksums are compared where a pixel depends on them: a text or a profile that is damaged does no harm.
    """
    view, position = memoryview(content), len(SIGNATURE)
    most = max(MAX_CHUNKS, len(content) // BYTES_A_CHUNK)
    for _ in range(most):
        if position + 12 > len(content):
            raise BadPicture("the picture is not complete", "chunks up to IEND", f"an end after {len(content)} bytes")
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            missing = f"{end - len(content)} bytes too few in chunk {kind!r}"
            raise BadPicture("the picture is not complete", f"{length} bytes", missing)
        critical = kind[:1].isupper()
        if not kind.isalpha() or (critical and kind not in PIXELS):
            raise BadPicture("the picture is damaged", "chunks that PNG knows", repr(kind))
        if (critical or kind == b"tRNS") and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(
            view[end - 4 : end]
        ):
            raise BadPicture("the picture is damaged", f"the checksum of chunk {kind!r} to be right", "another one")
        yield kind, view[position + 8 : end - 4], view[position:end]
        if kind == b"IEND":
            return
        position = end
    raise BadPicture("the picture has too many chunks", f"at most {most}", "more")


def _colours(length: int, known: int) -> int:
    """How many a palette of so many bytes has; ``known``: those of one before it."""
    if length % 3 or not 3 <= length <= 768 or known:
        raise BadPicture("the picture is damaged", "one palette of 1 to 256 colours of 3 bytes", f"{length} bytes")
    return length // 3


def _size(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, each with a filter's byte before it; ``bits`` a pixel."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    size = 0
    for column, row, right, down in passes:
        columns, rows = -(-(width - column) // right), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


def _check_rows(data: list[memoryview], expected: int) -> None:
    """Raises BadPicture unless the stream holds exactly that many bytes and its own checksum is right."""
    inflater, found = zlib.decompressobj(), 0
    for piece in data:
        rest: bytes | memoryview = piece
        while not inflater.eof and found <= expected:
            rows = inflater.decompress(rest, AT_ONCE)
            found, rest = found + len(rows), inflater.unconsumed_tail
            if not rows and not rest:
                break
    if found != expected or not inflater.eof:
        state = "" if inflater.eof or found > expected else ", without an end"
        raise BadPicture(
            "the picture is not complete" if found < expected else "the picture is damaged",
            f"{expected} bytes of rows",
            f"more than {expected}" if found > expected else f"{found}{state}",
        )


def _alpha(image: Image.Image, transparent: bytes, depth: int) -> Image.Image:
    """The mask (mode L) in which all pixels are opaque but those of the transparent colour."""
    colour = np.frombuffer(transparent, ">u2")[: len(transparent) // 2].astype(int) * 255 // (2**depth - 1)
    return Image.fromarray(np.where((np.asarray(image) == colour).all(axis=-1), np.uint8(0), np.uint8(255)))
