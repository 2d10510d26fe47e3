"""JPEG: decoded by libjpeg-turbo, whose warnings of missing data count.

Pillow uses the same library and hides what it warns of: a third of a picture that was closed with an end
marker would come out as a whole one, the rest of it grey.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import simplejpeg
from PIL import Image

from serving.pictures.bad import BadPicture
from serving.pictures.header import STILL, Header

SIGNATURE = b"\xff\xd8\xff"
APP0, APP1, APP14, DRI, SOS, EOI = 0xE0, 0xE1, 0xEE, 0xDD, 0xDA, 0xD9
FRAMES = range(0xC0, 0xD0)  # a marker of this range opens a frame, but DHT, JPG and DAC
NO_FRAMES = (0xC4, 0xC8, 0xCC)
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2  # all others are arithmetic, lossless or hierarchical
# Any number of 0xff may come before a marker. The last one is enough to find it: `\xff+` would try a long run of them
# from each of its bytes, which takes minutes for 100 kB.
MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
MARKER_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # restart markers are within
MAX_SEGMENTS = 10_000  # cameras write some hundred; each takes microseconds, 16 MB hold four million
MAX_SCANS = 500  # what TurboJPEG advises for files from strangers; ordinary ones have up to some 15
# How often scans go over the picture, of which each component is a part: 8 to 14 times in ordinary progressive ones.
# A scan that changes nothing takes a few bytes, and as long as any other.
MAX_PASSES = 24
SMALL = 2**20  # pixels; the passes over a smaller picture count as if it were of this size
ALL = (1 << 64) - 1  # the coefficients of a block, one bit each

SUBSAMPLINGS = "4:4:4, 4:2:2, 4:2:0, 4:4:0 or 4:1:1"  # those that simplejpeg knows
AFTER_LAST_SCAN = "extraneous bytes before marker 0xd9"  # a warning of libjpeg, which gives its first one


@dataclass
class Structure:
    """What the markers of a file say.

    ``frame``: its marker. ``depth``: bits a channel. ``restarts``: whether its scans hold restart markers.
    ``precise``: of each component the coefficients that its scans give to the last bit, as a mask.
    ``shares``: of each component, its samples for each of the picture's pixels; ``passes``: how often the
    scans go over the picture. ``segments``: how many there are. ``repairs``: bytes, by position, of which
    libjpeg would only say that it reads them as another value. It tells no more than one warning, so these
    would hide one that matters.
    """

    frame: int = 0
    depth: int = 0
    exif: bytes = b""
    restarts: bool = False
    precise: dict[int, int] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    passes: float = 0.0
    segments: int = 0
    repairs: dict[int, int] = field(default_factory=dict)


def read_jpeg(content: bytes) -> Header:
    """Raises BadPicture when it is not a whole JPEG, baseline or progressive, grey or RGB with 8 bits a channel."""
    structure = _structure(content)
    if structure.repairs:
        repaired = bytearray(content)
        for position, value in structure.repairs.items():
            repaired[position] = value
        content = bytes(repaired)
    if not structure.precise:
        raise BadPicture("the picture is not complete", "a frame", "none before the end marker")
    if structure.depth != 8:
        raise BadPicture("unsupported bit depth or colour mode", STILL, f"{structure.depth} bits a channel")
    if structure.frame not in (BASELINE, EXTENDED, PROGRESSIVE):
        found = f"the process of marker {structure.frame:#x}"
        raise BadPicture("the picture is of a rare kind", "baseline or progressive JPEG", found)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError) as error:  # KeyError: one that TurboJPEG knows and simplejpeg does not
        if isinstance(error, ValueError) and "subsampling" not in str(error):
            raise
        raise BadPicture("the picture is of a rare kind", SUBSAMPLINGS, "another subsampling of its colours") from error
    if colours in ("CMYK", "YCCK"):
        raise BadPicture("unsupported bit depth or colour mode", STILL, f"colours of mode {colours}")
    pixels = width * height
    if structure.passes * pixels > MAX_PASSES * max(pixels, SMALL):
        limit, found = f"scans that go over it at most {MAX_PASSES} times", f"{structure.passes:.0f} times"
        raise BadPicture("decoding the picture takes too long", limit, found, too_large=True)
    if short := [str(name) for name, mask in structure.precise.items() if mask != ALL]:
        found = f"none, or not all, for component {' and '.join(short)}"
        raise BadPicture("the picture is not complete", "scans for every component", found)

    def decode() -> Image.Image:
        try:
            pixels = simplejpeg.decode_jpeg(content, "RGBX")  # Pillow's own layout: no copy is made of it
        except ValueError as error:
            # Nothing is missing before these bytes; but where a restart marker is, libjpeg says the same.
            if AFTER_LAST_SCAN not in str(error) or structure.restarts:
                raise
            pixels = simplejpeg.decode_jpeg(content, "RGBX", strict=False)
        return Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)

    progressive = structure.frame == PROGRESSIVE
    seconds = pixels * (7e-9 + 1.1e-9 * structure.passes) + len(content) * (45e-9 if progressive else 25e-9)
    return Header(width, height, structure.exif, decode, seconds + structure.segments * 3e-6, structure.segments)


def _structure(content: bytes) -> Structure:
    """The markers up to the end marker. What comes after it, a second picture for example, is ignored."""
    structure = Structure()
    position, scans = len(SIGNATURE) - 1, 0
    for structure.segments in range(MAX_SEGMENTS):
        marker = (MARKER_AFTER_SCAN if scans else MARKER).search(content, position)
        if marker is None:
            found = f"{len(content)} bytes without one"
            raise BadPicture("the picture is not complete", "an end marker", found)
        kind, start = content[marker.end() - 1], marker.end()
        if kind == EOI:
            return structure
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # these stand alone
            position = start
            continue
        position = start + max(2, int.from_bytes(content[start : start + 2]))
        if position > len(content):
            found = f"{position - len(content)} bytes too few after marker {kind:#x}"
            raise BadPicture("the picture is not complete", "an end marker", found)
        body = content[start + 2 : position]
        structure.repairs |= _repairs(kind, body, start + 2, structure.frame)
        if kind in FRAMES and kind not in NO_FRAMES:
            structure.frame, structure.depth = kind, body[0]
            structure.precise = dict.fromkeys(body[6 : 6 + 3 * body[5] : 3], 0)
            structure.shares = _shares(body)
        elif kind == APP1 and body.startswith(b"Exif\0\0") and not structure.exif:
            structure.exif = body
        elif kind == DRI:
            structure.restarts = any(body)
        elif kind == SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise BadPicture("the picture has too many scans", f"at most {MAX_SCANS}", "more")
            _note_scan(structure, body)
    raise BadPicture("the picture has too many segments", f"at most {MAX_SEGMENTS}", "more")


def _repairs(kind: int, body: bytes, start: int, frame: int) -> dict[int, int]:
    """What libjpeg reads in place of values that it does not know; ``start``: position of the segment's body."""
    if kind == APP0 and body.startswith(b"JFIF\0") and body[5:6] != b"\1":
        return {start + 5: 1}
    if kind == APP14 and body.startswith(b"Adobe") and body[11:12] > b"\2":
        return {start + 11: 1}
    only = (0, 63, 0)  # the parameters there can be outside of progressive scans; some cameras write others
    if kind == SOS and frame != PROGRESSIVE and tuple(body[1 + 2 * body[0] :]) != only:
        return {start + 1 + 2 * body[0] + number: value for number, value in enumerate(only)}
    return {}


def _shares(frame: bytes) -> dict[int, float]:
    """Of each component its samples for each pixel: 1, or less where its colours are subsampled."""
    names, samplings = frame[6 : 6 + 3 * frame[5] : 3], frame[7 : 7 + 3 * frame[5] : 3]
    across, down = ([pair >> shift & 15 for pair in samplings] for shift in (4, 0))
    most = max(across, default=1) * max(down, default=1)
    return {name: x * y / max(1, most) for name, x, y in zip(names, across, down, strict=False)}


def _note_scan(structure: Structure, body: bytes) -> None:
    components = body[1 : 1 + 2 * body[0] : 2]
    first, last, bits = body[1 + 2 * body[0] :][:3]
    if structure.frame != PROGRESSIVE:
        first, last, bits = 0, 63, 0
    given = (1 << (last + 1)) - (1 << first)
    for name in components:
        structure.passes += structure.shares.get(name, 0)
        known = structure.precise.get(name, 0)
        structure.precise[name] = known | given if bits & 15 == 0 else known & ~given
