"""The one decoder, over HTTP as in training: the same bytes give the same pixels, or are refused in the same words."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from server import FLAT, SIDE, Server, publish

from serving.ensemble.loading import load_ensemble
from serving.pictures.bad import BadPicture
from serving.pictures.decoding import FORMATS, decode_upright, resized

pytestmark = pytest.mark.heavy

MODES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA")}
SIZES = ((SIDE, SIDE), (31, 45), (1800, 2400))  # the last ones are decoded in a process


def drawn(mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture with something of each colour, smooth enough to be small."""
    coarse = np.random.default_rng(len(mode)).integers(0, 256, (4, 5, 4), np.uint8)
    picture = Image.fromarray(coarse, "RGBA").resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert("RGB").convert(mode) if mode not in ("RGBA", "LA") else picture.convert(mode)


def pictures() -> Iterator[tuple[str, bytes]]:
    """Formats by modes by sizes by orientations, each whole and damaged in some ways."""
    for kind, modes in MODES.items():
        for mode in modes:
            for size in SIZES:
                for orientation in (1, 6) if mode == "RGB" else (1,):
                    exif = Image.Exif()
                    exif[0x0112] = orientation
                    file = io.BytesIO()
                    drawn(mode, size).save(file, kind, exif=exif)
                    name = f"{kind} {mode} {size[0]} × {size[1]} {orientation}"
                    yield from damaged(name, file.getvalue())
    animated = io.BytesIO()
    drawn("RGB", (9, 9)).save(animated, "WEBP", save_all=True, append_images=[drawn("L", (9, 9)).convert("RGB")])
    yield "animated", animated.getvalue()
    bmp = io.BytesIO()
    drawn("RGB", (9, 9)).save(bmp, "BMP")
    yield "BMP", bmp.getvalue()
    yield "nothing", b""


def damaged(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    yield f"{name}, a trailer", content + b"trailer"
    yield f"{name}, cut in the middle", content[: len(content) // 2]
    yield f"{name}, without its end", content[:-5]
    flipped = bytearray(content)
    flipped[len(content) * 2 // 3] ^= 0x10
    yield f"{name}, a bit flipped", bytes(flipped)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("eyes")
    publish(folder / "models", 1, [FLAT])
    with Server(folder) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def test_the_same_bytes_give_the_same_pixels_or_the_same_refusal(eyes: Server) -> None:
    """Probabilities stand for pixels: they are the softmax of each channel's mean, times 10."""
    ensemble = load_ensemble(eyes.models, threads=1)
    outcomes = {"answered": 0, "refused": 0}
    with eyes.client() as client:
        for name, content in pictures():
            answer = client.post("/v1/predict/image", files=[("images", ("p", content))])
            try:
                image = resized(decode_upright(io.BytesIO(content), formats=FORMATS), (SIDE, SIDE))
            except BadPicture as bad:
                assert_refused(name, answer, bad)
                outcomes["refused"] += 1
            else:
                (expected,) = ensemble.shard_probabilities(image[None])[0]
                assert answer.status_code == 200, (name, answer.text)
                (prediction,) = answer.json()["predictions"]
                assert prediction["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6), name
                outcomes["answered"] += 1
    assert min(outcomes.values()) > 50


def assert_refused(name: str, answer: httpx.Response, bad: BadPicture) -> None:
    said: dict[str, Any] = answer.json()
    assert answer.status_code == (413 if bad.too_large else 400), name
    assert (said["error"], said["field"], said["expected"]) == (bad.reason, "images[0]", bad.expected), name
    assert bad.found.startswith(said["found"].removesuffix("…")), name
