"""The one decoder: what is read, what it becomes, and what is refused as damaged. docs/pictures.md says the same."""

import io
import re
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from serving.pictures.bad import BadPicture
from serving.pictures.decoding import (
    BACKGROUND,
    FORMATS,
    MAX_SIDE,
    TRAINING_FORMATS,
    decode_header,
    read_header,
    resized,
)
from serving.pictures.exif import orientation
from serving.pictures.jpeg import _structure

CASES = Path(__file__).parent / "pictures"
PNG = b"\x89PNG\r\n\x1a\n"
RED, GREY = (255, 0, 0), (128, 128, 128)

Pixels = NDArray[np.uint8]


class Decoded(NamedTuple):
    """``pixels``: how many the picture had, as stored."""

    image: Pixels
    pixels: int


def decode(
    content: bytes,
    size: tuple[int, int] = (8, 8),
    formats: Sequence[str] = TRAINING_FORMATS,
    max_pixels: int | None = None,
) -> Decoded:
    header = read_header(io.BytesIO(content), formats=formats, max_pixels=max_pixels)
    return Decoded(resized(decode_header(header), size), header.width * header.height)


def refused(content: bytes, **options: Any) -> BadPicture:
    with pytest.raises(BadPicture) as caught:
        decode(content, **options)
    assert caught.value.reason
    assert caught.value.expected
    return caught.value


def encoded(image: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def photograph(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth and colourful, as a camera's pictures are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *, before: bytes = b"", interlaced: int = 0
) -> bytes:
    """By hand; ``rows``: each with its filter's byte, ``before``: chunks between the header and the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    return PNG + head + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- What is read

sides = st.integers(1, 70)
options_of_jpeg = st.fixed_dictionaries(
    {
        "quality": st.sampled_from([10, 75, 95, 100]),
        "subsampling": st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
        "progressive": st.booleans(),
        "optimize": st.booleans(),
        "restart_marker_blocks": st.sampled_from([0, 1, 3]),
    }
)


@given(sides, sides, options_of_jpeg, st.booleans(), st.integers(0, 99))
def test_an_ordinary_jpeg_is_read_whatever_its_size_and_coding(
    height: int, width: int, options: dict[str, Any], grey: bool, seed: int
) -> None:
    image = Image.fromarray(photograph(height, width, seed)).convert("L" if grey else "RGB")
    content = encoded(image, "JPEG", **options)
    with Image.open(io.BytesIO(content)) as theirs:  # Pillow, which has the same library, sees the same pixels
        assert (decode(content, (height, width)).image == np.asarray(theirs.convert("RGB"))).all()


@given(sides, sides, st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA"]), st.integers(0, 9))
def test_an_ordinary_png_is_read_whatever_its_size_and_mode(height: int, width: int, mode: str, level: int) -> None:
    image = Image.fromarray(photograph(height, width)).convert(mode)
    decoded = decode(encoded(image, "PNG", compress_level=level), (height, width))
    assert (decoded.image == np.asarray(image.convert("RGB"))).all()
    assert decoded.pixels == height * width


@given(sides, sides, st.booleans(), st.booleans())
def test_an_ordinary_webp_is_read_whatever_its_size_and_coding(
    height: int, width: int, lossless: bool, alpha: bool
) -> None:
    image = Image.fromarray(photograph(height, width)).convert("RGBA" if alpha else "RGB")
    content = encoded(image, "WEBP", lossless=lossless)
    with Image.open(io.BytesIO(content)) as theirs:
        assert (decode(content, (height, width)).image == np.asarray(theirs.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_is_read_in_training_and_refused_in_requests(mode: str) -> None:
    image = Image.fromarray(photograph(9, 7)).convert(mode)
    content = encoded(image, "BMP")
    assert (decode(content, (9, 7)).image == np.asarray(image.convert("RGB"))).all()
    assert refused(content, formats=FORMATS).reason == "unsupported picture format"


@pytest.mark.parametrize("kind", FORMATS)
def test_training_and_requests_see_the_same_image(kind: str) -> None:
    content = encoded(photograph(37, 23), kind)
    seen = [decode(content, (16, 16), formats).image for formats in (FORMATS, TRAINING_FORMATS)]
    assert (seen[0] == seen[1]).all()


def test_an_interlaced_png_is_read() -> None:
    """Adam7 by hand: of 3 × 2 pixels the passes hold 1, 0, 0, 1, 0, 1 and 3."""
    values = {1: b"\0\x0a", 4: b"\0\x1e", 6: b"\0\x14", 7: b"\0\x28\x32\x3c"}
    decoded = decode(png(3, 2, 8, 0, b"".join(values.values()), interlaced=1), (2, 3)).image
    assert decoded[..., 0].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_cameras_preview_beside_the_picture_does_not_make_it_animated() -> None:
    first, preview = Image.fromarray(photograph(16, 16)), Image.new("RGB", (8, 8))
    content = encoded(first, "MPO", save_all=True, append_images=[preview])
    assert decode(content).pixels == 256


def test_what_follows_the_picture_is_not_looked_at() -> None:
    for kind in TRAINING_FORMATS:
        content = encoded(photograph(16, 16), kind)
        assert (decode(content + b"\0trailer\xff" * 99).image == decode(content).image).all()


# --- What it becomes


def test_the_shorter_side_is_scaled_and_the_centre_is_kept() -> None:
    """Of 8 × 4 pixels the middle 4 × 4 are kept: black and white bars at the ends are cut off."""
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :2], pixels[:, 2:4], pixels[:, 4:6], pixels[:, 6:] = 0, 100, 200, 255
    across = decode(encoded(pixels, "PNG"), (4, 4)).image
    assert across[..., 0].tolist() == [[100, 100, 200, 200]] * 4
    upright = decode(encoded(pixels.transpose(1, 0, 2), "PNG"), (4, 4)).image
    assert (upright == across.transpose(1, 0, 2)).all()


def test_an_odd_rest_is_cut_off_half_a_pixel_at_each_end() -> None:
    """Of 5 × 2 pixels the box from 1.5 to 3.5 is kept: half of the second, all of the third, half of the fourth."""
    row = np.array([0, 40, 80, 120, 160], np.uint8)
    decoded = decode(encoded(np.tile(row[None, :, None], (2, 1, 3)), "PNG"), (2, 2)).image
    with_box = Image.fromarray(np.tile(row, (2, 1))).resize((2, 2), Image.Resampling.BILINEAR, box=(1.5, 0, 3.5, 2))
    assert (decoded[..., 0] == np.asarray(with_box)).all()
    assert decoded[0, :, 0].tolist() == [60, 100]  # the centres are at 2 and 3, between two pixels each


def test_a_square_picture_is_only_resized_and_one_of_the_size_is_left_alone() -> None:
    pixels = photograph(48, 48)
    resized = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
    assert (decode(encoded(pixels, "PNG"), (32, 32)).image == np.asarray(resized)).all()
    assert (decode(encoded(pixels, "PNG"), (48, 48)).image == pixels).all()


@given(sides, sides, st.integers(1, 40), st.integers(1, 40))
def test_a_picture_of_one_colour_stays_of_that_colour(height: int, width: int, high: int, wide: int) -> None:
    """Whatever the proportions: the box never leaves the picture."""
    decoded = decode(encoded(np.full((height, width, 3), RED, np.uint8), "PNG"), (high, wide)).image
    assert decoded.shape == (high, wide, 3)
    assert (decoded == RED).all()


def test_a_mean_is_taken_over_all_pixels_where_a_picture_is_made_smaller() -> None:
    """A chequerboard of single pixels becomes grey, not one of its two colours."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    decoded = decode(encoded(np.repeat(board[..., None], 3, axis=2), "PNG"), (4, 4)).image
    assert np.abs(decoded.astype(int) - 128).max() <= 1


def turned(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 100, "subsampling": "4:4:4"}), ("PNG", {}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("number", range(1, 9))
def test_a_picture_is_turned_upright_by_its_exif(kind: str, options: dict[str, Any], number: int) -> None:
    """As seen: red above on the left, blue below on the right. Stored: as a camera of that orientation writes it."""
    seen = np.zeros((16, 24, 3), np.uint8)
    seen[:8, :8], seen[8:, 16:] = (255, 0, 0), (0, 0, 255)
    undo = {5: (1, 0), 6: (1, 0), 7: (1, 0), 8: (1, 0)}.get(number, (0, 1))
    flips: dict[int, tuple[int, ...]] = {2: (1,), 3: (0, 1), 4: (0,), 6: (0,), 7: (0, 1), 8: (1,)}
    stored = np.flip(seen.transpose(*undo, 2), flips.get(number, ()))
    decoded = decode(encoded(np.ascontiguousarray(stored), kind, exif=turned(number), **options), (16, 24)).image
    assert np.abs(decoded.astype(int) - seen).max() <= 3


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"MM\0*\0\0\0\x08",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(30),
        b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0\x06\0\0\0",
        b"nothing like it",
    ],
)
def test_exif_that_is_damaged_turns_nothing(exif: bytes) -> None:
    assert orientation(exif) == 1


@given(st.binary(max_size=60))
def test_any_bytes_are_some_orientation(exif: bytes) -> None:
    assert orientation(b"II*\0" + exif) in range(1, 9)


def test_exif_that_is_broken_elsewhere_still_turns_the_picture() -> None:
    """Its orientation, 6, is sound; beside it is a tag that points outside of the file."""
    content = (CASES / "broken-exif.jpg").read_bytes()
    start = content.index(b"\xff\xe1")
    length = int.from_bytes(content[start + 2 : start + 4])
    without = content[:start] + content[start + 2 + length :]
    as_stored = decode(without, (24, 24)).image
    assert (decode(content, (24, 24)).image == np.rot90(as_stored, -1)).all()


def test_a_transparent_pixel_shows_the_background_and_a_half_transparent_one_half_of_it() -> None:
    """128 of 255 is .502: .502 · (200, 0, 0) + .498 · 255 white."""
    pixels = np.array([[[200, 0, 0, 0], [200, 0, 0, 128], [200, 0, 0, 255]]], np.uint8)
    for kind in ("PNG", "WEBP"):
        options = {} if kind == "PNG" else {"lossless": True, "exact": True}
        assert decode(encoded(pixels, kind, **options), (1, 3)).image.tolist() == [
            [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
        ]
    assert BACKGROUND == (255, 255, 255)


def test_every_way_to_be_transparent_counts() -> None:
    """Two pixels, of which the second is transparent: grey, palette, and one colour of grey or RGB pictures."""
    white = [255, 255, 255]
    grey_alpha = np.array([[[50, 255], [50, 0]]], np.uint8)
    palette = chunk(b"PLTE", bytes([50, 50, 50, 1, 2, 3])) + chunk(b"tRNS", bytes([255, 0]))
    pictures = {
        "LA": encoded(Image.fromarray(grey_alpha), "PNG"),
        "P": png(2, 1, 8, 3, b"\0\0\1", before=palette),
        "L": png(2, 1, 8, 0, b"\0\x32\x46", before=chunk(b"tRNS", b"\0\x46")),
        "RGB": png(2, 1, 8, 2, b"\0\x32\x32\x32\1\2\3", before=chunk(b"tRNS", b"\0\1\0\2\0\3")),
    }
    for mode, content in pictures.items():
        assert decode(content, (1, 2)).image.tolist() == [[[50, 50, 50], white]], mode
    four_bits = png(2, 1, 4, 0, b"\0\x3f", before=chunk(b"tRNS", b"\0\3"))  # 3 and 15 of 15, the first transparent
    assert decode(four_bits, (1, 2)).image.tolist() == [[white, white]]
    one_bit = png(2, 1, 1, 0, b"\0\x40", before=chunk(b"tRNS", b"\0\1"))  # black and white, white transparent
    assert decode(one_bit, (1, 2)).image.tolist() == [[[0, 0, 0], white]]


def test_a_picture_that_is_transparent_everywhere_is_the_background() -> None:
    assert (decode((CASES / "fully-transparent.png").read_bytes()).image == BACKGROUND).all()


# --- Metadata that no pixel depends on


def test_a_profile_of_three_megabytes_does_not_matter() -> None:
    assert decode((CASES / "icc-profile-3-mb.png").read_bytes()).pixels == 64 * 48
    profile = np.random.default_rng(0).bytes(3_000_000)
    for kind in ("JPEG", "WEBP"):
        assert decode(encoded(photograph(64, 48), kind, icc_profile=profile)).pixels == 64 * 48


def test_texts_that_are_too_large_or_damaged_do_not_matter() -> None:
    info = PngInfo()
    for _ in range(70):
        info.add_text("note", "x" * 2**20, zip=True)
    assert decode(encoded(photograph(9, 9), "PNG", pnginfo=info)).pixels == 81
    wrong = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    assert decode(png(1, 1, 8, 0, b"\0\0", before=wrong)).pixels == 1


def test_a_few_bytes_before_the_end_marker_do_not_matter() -> None:
    content = encoded(photograph(33, 41), "JPEG")
    assert (decode(content[:-2] + b"some words" + content[-2:]).image == decode(content).image).all()


def with_scan_parameters(content: bytes) -> bytes:
    """As some cameras write them: the last coefficient is said to be 0, not 63."""
    return re.sub(rb"(\xff\xda\0\x0c.{7})\0\x3f\0", rb"\1\0\0\0", content, flags=re.DOTALL)


def with_jfif_version(content: bytes) -> bytes:
    return content.replace(b"JFIF\0\1", b"JFIF\0\3", 1)


def with_adobe_transform(content: bytes) -> bytes:
    segment = b"Adobe" + bytes(6) + b"\x07"
    return content[:2] + b"\xff\xee" + struct.pack(">H", 2 + len(segment)) + segment + content[2:]


@pytest.mark.parametrize("change", [with_scan_parameters, with_jfif_version, with_adobe_transform])
def test_a_wrong_value_that_libjpeg_reads_as_the_usual_one_does_not_matter_and_hides_no_damage(change: Any) -> None:
    content = encoded(photograph(33, 41), "JPEG")
    changed = change(content)
    assert changed != content
    assert (decode(changed).image == decode(content).image).all()
    refused(changed[:-40] + b"\xff\xd9")


# --- What is refused


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


@pytest.mark.parametrize(
    ("content", "reason", "found"),
    [
        (b"", "unsupported picture format", "begins with b''"),
        (b"http://127.0.0.1/picture.png", "unsupported picture format", "begins with b'http"),
        (encoded(Image.new("RGB", (4, 4)), "GIF"), "unsupported picture format", "begins with b'GIF"),
        (encoded(Image.new("RGB", (4, 4)), "TIFF"), "unsupported picture format", "begins with"),
        (encoded(Image.new("I;16", (4, 4)), "PNG"), "bit depth or colour", "16 bits a channel"),
        (png(2, 2, 16, 2, bytes(2 * 13)), "bit depth or colour", "16 bits a channel"),
        (encoded(Image.new("CMYK", (4, 4)), "JPEG"), "bit depth or colour", "CMYK"),
        (animated("PNG"), "animated", "2 frames"),
        (animated("WEBP"), "animated", "2 frames"),
        (PNG + chunk(b"tEXt", b"a\0b") + png(2, 2, 16, 2, bytes(26))[8:], "damaged", "b'tEXt'"),
        (PNG, "not complete", "after 8 bytes"),
        (png(1, 1, 8, 5, b"\0\0"), "damaged", "5"),
        (png(1, 1, 8, 0, b"\0\0", before=chunk(b"NEWS", b"")), "damaged", "NEWS"),
    ],
)
def test_what_is_no_still_picture_of_8_bits_is_refused_by_what_it_is(content: bytes, reason: str, found: str) -> None:
    bad = refused(content)
    assert reason in bad.reason
    assert found in bad.found
    assert not bad.too_large
    assert bad.found in str(bad)


def arithmetic(content: bytes) -> bytes:
    return content.replace(b"\xff\xc0", b"\xff\xc9", 1)


def of_12_bits(content: bytes) -> bytes:
    return content.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1)


@pytest.mark.parametrize(
    ("change", "found"), [(arithmetic, "the process of marker 0xc9"), (of_12_bits, "12 bits a channel")]
)
def test_a_jpeg_of_a_rare_process_is_refused_by_name(change: Any, found: str) -> None:
    assert refused(change(encoded(photograph(16, 16), "JPEG"))).found == found


def test_a_jpeg_of_a_rare_subsampling_is_refused_by_name() -> None:
    content = encoded(photograph(16, 16), "JPEG", subsampling="4:2:0").replace(b"\x01\x22\0", b"\x01\x31\0", 1)
    assert "4:2:0" in refused(content).expected
    assert "subsampling" in refused(content).found


# --- Damage


@pytest.mark.parametrize("kind", FORMATS)
@given(data=st.data())
def test_a_file_that_ends_too_early_is_refused(kind: str, data: st.DataObject) -> None:
    options = {"progressive": data.draw(st.booleans())} if kind == "JPEG" else {}
    content = encoded(photograph(31, 45), kind, **options)
    refused(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.booleans(), st.sampled_from([0, 2]), st.sampled_from(["4:4:4", "4:2:0"]), st.data())
def test_a_jpeg_of_which_data_are_missing_is_refused_though_it_is_closed_by_an_end_marker(
    progressive: bool, restart: int, subsampling: str, data: st.DataObject
) -> None:
    content = encoded(
        photograph(31, 45),
        "JPEG",
        progressive=progressive,
        restart_marker_blocks=restart,
        subsampling=subsampling,
    )
    assert decode(content).pixels == 31 * 45
    start = content.index(b"\xff\xda")
    refused(content[: data.draw(st.integers(start + 14, len(content) - 3))] + b"\xff\xd9")


def test_a_third_of_a_photograph_closed_by_an_end_marker_is_refused() -> None:
    bad = refused((CASES / "truncated-but-closed.jpg").read_bytes())
    assert "premature end of data segment" in bad.found


@pytest.mark.parametrize("kept", range(1, 10))
def test_a_progressive_jpeg_that_lacks_whole_scans_is_refused(kept: int) -> None:
    """Cut between two scans, so that no data are missing within one."""
    content = encoded(photograph(31, 45), "JPEG", progressive=True)
    scans = [found.start() for found in re.finditer(b"\xff\xda", content)]
    assert len(scans) == 10
    tables = (
        content.rindex(b"\xff\xc4", 0, scans[kept]) if content[scans[kept - 1] : scans[kept]].count(b"\xff\xc4") else 0
    )
    bad = refused(content[: tables or scans[kept]] + b"\xff\xd9")
    assert bad.reason == "the picture is not complete"
    assert "for component" in bad.found


@pytest.mark.parametrize("marker", [0xD0, 0xD1])
def test_a_restart_marker_that_is_missing_is_refused(marker: int) -> None:
    """45 × 31 pixels are six blocks of 16 × 16, so there are two markers, after the second and the fourth."""
    content = encoded(photograph(31, 45), "JPEG", restart_marker_blocks=2)
    assert content.count(bytes([0xFF, marker])) == 1
    refused(content.replace(bytes([0xFF, marker]), b""))


def test_more_scans_than_any_encoder_writes_are_refused() -> None:
    content = encoded(photograph(16, 16), "JPEG")
    scan = content[content.index(b"\xff\xda") : -2]
    assert refused(content[:-2] + scan * 500 + content[-2:]).reason == "the picture has too many scans"


def test_scans_that_go_over_a_large_picture_again_and_again_are_refused_before_any_is_decoded() -> None:
    """A flat grey picture: its 6 scans go over it 6 times; a last one that changes nothing takes some bytes."""
    content = encoded(np.full((2000, 2000), 90, np.uint8), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    more = [content[:last] + content[last:-2] * (1 + count) + content[-2:] for count in (18, 19)]
    bad = refused(more[1])
    assert (bad.reason, bad.found) == ("decoding the picture takes too long", "25 times")
    assert bad.too_large
    assert refused(more[0]).reason == "the picture is damaged"  # as libjpeg has it: a scan that was there before


def test_ordinary_progressive_jpegs_go_over_the_picture_at_most_14_times() -> None:
    for subsampling, passes in (("4:4:4", 14), ("4:2:0", 8)):
        content = encoded(photograph(64, 64), "JPEG", progressive=True, subsampling=subsampling)
        assert _structure(content).passes == pytest.approx(passes)


def test_a_long_run_of_fill_bytes_is_read_at_once() -> None:
    content = encoded(photograph(16, 16), "JPEG")
    start = content.index(b"\xff\xda")
    filled = decode(content[:start] + b"\xff" * 3_000_000 + content[start:])
    assert (filled.image == decode(content).image).all()
    refused(content[:-2] + b"\xff" * 3_000_000 + b"\0" + content[-2:-1])


@pytest.mark.parametrize("segment", [b"\xff\xe1\0\2", b"\xff\xe1\0\x08Exif\0\0", b"\xff\xe2\0\2", b"\xff\xfe\0\2"])
def test_more_segments_than_any_camera_writes_are_refused(segment: bytes) -> None:
    content = encoded(photograph(16, 16), "JPEG")
    decode(content[:2] + segment * 9_000 + content[2:])
    assert refused(content[:2] + segment * 1_000_000 + content[2:]).reason == "the picture has too many segments"


@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT"])
def test_more_chunks_than_any_program_writes_are_refused(kind: bytes) -> None:
    content = encoded(photograph(16, 16), "PNG")
    empty = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    start = content.index(b"IDAT") - 4
    decode(content[:start] + empty * 4_000 + content[start:])
    assert refused(content[:start] + empty * 1_000_000 + content[start:]).reason == "the picture has too many chunks"


def chunks(content: bytes) -> list[tuple[bytes, int, int]]:
    """(kind, start, end) of every chunk."""
    found, position = [], 8
    while position < len(content):
        length = int.from_bytes(content[position : position + 4])
        found.append((content[position + 4 : position + 8], position, position + 12 + length))
        position += 12 + length
    return found


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_a_wrong_checksum_is_refused_in_every_chunk_that_makes_pixels(mode: str) -> None:
    image = Image.fromarray(photograph(20, 20)).convert(mode)
    content = encoded(image, "PNG", **({"transparency": 0} if mode == "P" else {}))
    for kind, _, end in chunks(content):
        damaged = bytearray(content)
        damaged[end - 1] ^= 1
        assert repr(kind) in refused(bytes(damaged)).expected


@given(st.data())
def test_a_png_with_one_bit_flipped_is_refused(data: st.DataObject) -> None:
    content = bytearray(encoded(photograph(9, 9), "PNG"))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(bytes(content))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (b"\0\1\2\0\3\4", None),
        (b"\0\1\2\0\3", "not complete"),
        (b"\0\1\2", "not complete"),
        (b"", "not complete"),
        (b"\0\1\2\0\3\4\0", "damaged"),
    ],
)
def test_a_png_holds_exactly_its_rows(rows: bytes, reason: str | None) -> None:
    """Checksums right in each: 2 × 2 grey pixels are 6 bytes."""
    content = png(2, 2, 8, 0, rows)
    if reason is None:
        assert decode(content, (2, 2)).image[..., 0].tolist() == [[1, 2], [3, 4]]
    else:
        assert reason in refused(content).reason


COLOURS = chunk(b"PLTE", bytes(6))  # two


@pytest.mark.parametrize(
    ("colour", "before", "rows", "expected"),
    [
        (3, COLOURS, b"\0\0\1\0\1\0", None),
        (3, COLOURS, b"\0\0\1\0\2\0", "pixels of the palette's 2 colours"),
        (3, b"", b"\0\0\0\0\0\0", "a palette"),
        (3, chunk(b"PLTE", b""), b"\0\0\0\0\0\0", "one palette of 1 to 256 colours"),
        (3, chunk(b"PLTE", bytes(4)), b"\0\0\0\0\0\0", "one palette of 1 to 256 colours"),
        (3, COLOURS + COLOURS, b"\0\0\0\0\0\0", "one palette of 1 to 256 colours"),
        (3, COLOURS + chunk(b"tRNS", bytes(3)), b"\0\0\0\0\0\0", "a tRNS of 2 bytes"),
        (0, chunk(b"tRNS", bytes(2)), b"\0\0\0\0\0\0", None),
        (0, chunk(b"tRNS", bytes(3)), b"\0\0\0\0\0\0", "a tRNS of 2 bytes"),
    ],
)
def test_a_png_has_the_palette_and_the_transparency_that_its_pixels_need(
    colour: int, before: bytes, rows: bytes, expected: str | None
) -> None:
    content = png(2, 2, 8, colour, rows, before=before)
    if expected is None:
        assert decode(content, (2, 2)).image.shape == (2, 2, 3)
    else:
        assert expected in refused(content).expected


@pytest.mark.parametrize("place", [26, 27, 28], ids=["compression", "filters", "interlacing"])
def test_a_png_of_methods_that_there_are_not_is_refused(place: int) -> None:
    content = bytearray(png(2, 2, 8, 0, b"\0\1\2\0\3\4"))
    content[place] = 7
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    assert "the methods of PNG" in refused(bytes(content)).expected


def test_a_png_whose_stream_has_a_wrong_checksum_of_its_own_is_refused() -> None:
    stream = bytearray(zlib.compress(b"\0\1\2\0\3\4"))
    stream[-1] ^= 1
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    content = PNG + head + chunk(b"IDAT", bytes(stream)) + chunk(b"IEND", b"")
    assert "incorrect data check" in refused(content).found


@given(st.sampled_from(FORMATS), st.binary(max_size=200))
def test_random_bytes_after_a_signature_are_refused_and_never_another_error(kind: str, rest: bytes) -> None:
    start = {"PNG": PNG, "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF\xff\0\0\0WEBPVP8 "}[kind]
    refused(start + rest)


@given(st.sampled_from(FORMATS), st.data())
def test_a_picture_with_some_bytes_changed_is_an_image_or_refused_and_never_another_error(
    kind: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(photograph(20, 20), kind))
    for position in data.draw(st.lists(st.integers(3, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(content), max_pixels=10_000)
    except BadPicture:
        assume(False)
    assert decoded.image.shape == (8, 8, 3)


# --- Size


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims width × height pixels and which holds next to nothing."""
    return png(width, height, 8, 2, bytes(10))


@pytest.mark.parametrize(
    ("width", "height", "most"),
    [(101, 100, 10_000), (10_000, 10_000, 10_000), (60_000, 60_000, None), (MAX_SIDE + 1, 1, None)],
)
def test_a_picture_that_is_too_large_is_judged_by_its_header(width: int, height: int, most: int | None) -> None:
    bad = refused(bomb(width, height), max_pixels=most)
    assert bad.too_large
    assert bad.found == f"{width} × {height}"


def test_as_many_pixels_as_allowed_are_never_too_many() -> None:
    content = encoded(photograph(10, 10), "PNG")
    assert decode(content, max_pixels=100).pixels == 100
    assert refused(content, max_pixels=99).too_large


def test_a_stream_that_inflates_without_end_is_left_at_the_rows_that_there_may_be() -> None:
    """Behind a header of 1 × 1, which is 2 bytes of rows, are 100 MB."""
    assert refused(png(1, 1, 8, 0, bytes(100_000_000))).found == "more than 2"


def test_pictures_are_decoded_side_by_side() -> None:
    contents = [encoded(photograph(40, 40, seed), kind) for seed in range(5) for kind in FORMATS]
    alone = [decode(content).image for content in contents]
    together: list[Pixels | None] = [None] * len(contents)

    def work(number: int) -> None:
        together[number] = decode(contents[number]).image

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(alone, together, strict=True):
        assert theirs is not None
        assert (mine == theirs).all()
