"""What a look finds and what it confuses: conversions found again, pairs of other pictures that look alike.

    python -m benchmarks.near_copies [--cifar10 data/raw] [--known duplicates_cifar10.csv]

Prints Markdown tables: of all pairs of CIFAR-10's 60,000 pictures, how many are near at several distances; of known near
duplicates (the list of ciFAIR, https://github.com/cvjena/cifair, meta/duplicates_cifar10.csv), how many are found;
of converted pictures, how many; how often handwritten digits look alike; and what the prints of a picture cost.
"""

from __future__ import annotations

import csv
import io
import platform
import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.datasets import CIFAR10
from tqdm import tqdm

from training.data.arrays import read_digits
from training.data.prints import NEAR, look_of, take_prints

Pictures = list[NDArray[np.uint8]]
DISTANCES = (16, 24, 32, 40, 48, 56, 64)
SAMPLED = 1000  # pictures of CIFAR-10 that are converted
PART = 96  # pixels a side, of the parts of the photographs


def stored(kind: str, **options: object) -> Callable[[Image.Image], Image.Image]:
    def convert(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return Image.open(file).convert("RGB")

    return convert


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.resize(
        (round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC
    )


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    def crop(picture: Image.Image) -> Image.Image:
        edge = round(picture.width * share)
        return picture.crop((edge, edge, picture.width - edge, picture.height - edge))

    return crop


CONVERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 95": stored("JPEG", quality=95),
    "JPEG 75": stored("JPEG", quality=75),
    "JPEG 50": stored("JPEG", quality=50),
    "WEBP 80": stored("WEBP", quality=80),
    "WEBP 50": stored("WEBP", quality=50),
    "twice the size": scaled(2),
    "1.5 times the size": scaled(1.5),
    "half the size": scaled(0.5),
    "2% cut off each side": cropped(0.02),
    "4% cut off each side": cropped(0.04),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main(
    cifar10: Annotated[Path, typer.Option(help="folder with cifar-10-batches-py")] = Path("data/raw"),
    known: Annotated[Path | None, typer.Option(help="ciFAIR's list of near duplicates")] = None,
) -> None:
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}\n")
    train, test = (CIFAR10(cifar10, train=split).data for split in (True, False))
    looks = looks_of([*train, *test])
    print(f"CIFAR-10, {len(looks):,} pictures; without a look: {int((~looks.any(axis=1)).sum())}\n")
    table(("differing bits, at most", *DISTANCES), [("pairs of 1.8 billion", *map(str, all_pairs(looks)))])
    if known is not None:
        table(("ciFAIR's pairs", "number", *DISTANCES), list(duplicates(known, looks, len(train))))
    chosen = np.random.default_rng(0).choice(len(looks), SAMPLED, replace=False)
    images = [*train, *test]
    table(
        ("converted", "CIFAR-10", "enlarged 7 times", "photographs"), conversions([images[index] for index in chosen])
    )
    table(("digits, pixels a side", "without a look", "near pairs of 1.6 million"), digits())
    table(("pixels a side", "prints, ms", "of it the look, ms"), costs())


def looks_of(pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(N, 32)."""
    made = b"".join(look_of(picture) for picture in tqdm(pictures, desc="looks", leave=False, disable=None))
    return np.frombuffer(made, np.uint8).reshape(-1, 32)


def all_pairs(looks: NDArray[np.uint8]) -> list[int]:
    """Pairs that differ in at most so many bits, by ``DISTANCES``; those without a look left out."""
    words = np.ascontiguousarray(looks[looks.any(axis=1)]).view(np.uint64)
    counts = np.zeros(257, np.int64)
    for start in tqdm(range(len(words)), desc="pairs", leave=False, disable=None):
        differing = np.bitwise_count(words[start + 1 :] ^ words[start]).sum(axis=1)
        counts += np.bincount(differing, minlength=257)
    return [int(counts[: distance + 1].sum()) for distance in DISTANCES]


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of looks, row by row; 256 where one of them is none."""
    differing = np.bitwise_count(one ^ other).sum(axis=1).astype(np.int64)
    return np.where(one.any(axis=1) & other.any(axis=1), differing, 256)


def duplicates(path: Path, looks: NDArray[np.uint8], trained: int) -> Iterable[tuple[object, ...]]:
    with path.open(newline="") as file:
        rows = [(int(row["TestID"]), int(row["TrainID"]), row["Judgment"]) for row in csv.DictReader(file)]
    names = {"1": "near duplicates: one shot, moved, scaled or recoloured", "2": "very similar, of two shots"}
    for judgement, name in names.items():
        pairs = np.array([(test, train) for test, train, judged in rows if judged == judgement])
        found = distance(looks[trained + pairs[:, 0]], looks[pairs[:, 1]])
        yield name, len(pairs), *(f"{(found <= most).mean():.0%}" for most in DISTANCES)


def conversions(images: Pictures) -> Iterable[tuple[object, ...]]:
    small = [Image.fromarray(image) for image in images]
    large = [picture.resize((224, 224), Image.Resampling.BICUBIC) for picture in small[::5]]
    whole = [Image.fromarray(picture) for picture in load_sample_images().images]
    parts = [
        picture.crop((left, top, left + PART, top + PART))
        for picture in whole
        for left, top in product(range(0, picture.width - PART, PART), range(0, picture.height - PART, PART))
    ]
    before = [looks_of(map(np.asarray, pictures)) for pictures in (small, large, parts)]
    kept = [np.array(looks.any(axis=1)) for looks in before]
    yield "pictures, of them with a look", *(f"{len(has)}, {has.sum()}" for has in kept)
    for name, convert in CONVERSIONS.items():
        cells = []
        for pictures, looks, has in zip((small, large, parts), before, kept, strict=True):
            after = looks_of(np.asarray(convert(picture)) for picture in pictures)
            apart = distance(looks[has], after[has])
            cells.append(f"{(apart <= NEAR).mean():.1%} (median {np.median(apart):.0f})")
        yield name, *cells


def digits() -> Iterable[tuple[object, ...]]:
    images, _ = read_digits()
    for side in (8, 16, 31, 32, 64):
        enlarged = [
            np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)) for image in images
        ]
        looks = looks_of(enlarged)
        yield side, int((~looks.any(axis=1)).sum()), all_pairs(looks)[DISTANCES.index(NEAR)]


def costs() -> Iterable[tuple[object, ...]]:
    random = np.random.default_rng(0)
    for side in (32, 224, 1000, 4000):
        picture = random.integers(0, 256, (side, side, 3), np.uint8)
        yield side, *(f"{fastest(work, picture):.2f}" for work in (lambda each: take_prints(b"", each), look_of))


def fastest(work: Callable[[NDArray[np.uint8]], object], picture: NDArray[np.uint8]) -> float:
    """Milliseconds, the least of ten."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        work(picture)
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def table(header: tuple[object, ...], rows: Iterable[tuple[object, ...]]) -> None:
    print(f"| {' | '.join(map(str, header))} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print()


if __name__ == "__main__":
    typer.run(main)
