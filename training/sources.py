"""Where samples come from: the embedded digits, CIFAR-10, or the user's own folder of pictures.

A source knows the id, label and fingerprint of every sample and decodes a picture only when asked.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from training.code import code_digest
from training.params import Data
from training.stage import StageError

Picture = NDArray[np.uint8]  # (size, size, 3), RGB

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Samples:
    """Some samples of one split.

    ``ids``: stable names. ``labels``: (N,) int64 in [0, classes). ``fingerprints``: hex SHA-256 of
    what each picture is decoded from and how, so that an unchanged one need not be decoded again.
    ``decode(i)``: picture i, (size, size, 3) uint8.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    fingerprints: tuple[str, ...]
    decode: Callable[[int], Picture]


@dataclass(frozen=True)
class Source:
    """A training split, a test split, and the meaning of an id.

    ``find(id)``: position of the training sample of that id, or None when it is a valid id whose
    picture is already gone. Raises ValueError saying why an id cannot exist.
    """

    classes: tuple[str, ...]
    train: Samples
    test: Samples
    find: Callable[[str], int | None]


def open_source(data: Data) -> Source:
    """The source that ``data.source`` names.

    Raises StageError when it is not there or not readable.
    """
    return {"digits": _digits, "cifar10": _cifar10, "imagefolder": _imagefolder}[data.source](data)


def _digits(data: Data) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    labels = digits.target.astype(np.int64)
    # The test split: every fifth picture of each class, in scikit-learn's order.
    rank = np.zeros(len(labels), np.int64)
    for label in range(10):
        rank[labels == label] = np.arange((labels == label).sum())
    test = rank % 5 == 4
    return Source(
        classes=tuple(str(name) for name in digits.target_names),
        train=_from_array(pictures[~test], labels[~test], data.image_size),
        test=_from_array(pictures[test], labels[test], data.image_size),
        find=_find_number(int((~test).sum())),
    )


def _cifar10(data: Data) -> Source:
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(data.root, train=split, download=True) for split in (True, False))
    except (OSError, RuntimeError) as error:
        raise StageError(
            f"data.source is cifar10, but {data.root} holds no complete copy and it could not be "
            f"downloaded ({error}); unpack cifar-10-python.tar.gz there"
        ) from error
    return Source(
        classes=tuple(train.classes),
        train=_from_array(train.data, np.array(train.targets, np.int64), data.image_size),
        test=_from_array(test.data, np.array(test.targets, np.int64), data.image_size),
        find=_find_number(len(train.data)),
    )


def _from_array(pictures: NDArray[np.uint8], labels: NDArray[np.int64], size: int) -> Samples:
    return Samples(
        ids=tuple(str(index) for index in range(len(pictures))),
        labels=labels,
        fingerprints=tuple(_fingerprint(picture.tobytes(), size) for picture in pictures),
        decode=lambda index: _resize(Image.fromarray(pictures[index]), size),
    )


def _find_number(count: int) -> Callable[[str], int]:
    def find(sample_id: str) -> int:
        if not sample_id.isascii() or not sample_id.isdecimal() or str(int(sample_id)) != sample_id:
            raise ValueError(f"an id is a number written plainly, 0 to {count - 1}")
        if int(sample_id) >= count:
            raise ValueError(f"out of range: ids are 0 to {count - 1}")
        return int(sample_id)

    return find


def _imagefolder(data: Data) -> Source:
    splits = {split: data.root / split for split in ("train", "test")}
    for folder in splits.values():
        if not folder.is_dir():
            raise StageError(
                f"data.source is imagefolder, but {folder} is not a folder; expected "
                f"{data.root}/train/CLASS/* and {data.root}/test/CLASS/*"
            )
    # A class is a folder, also an empty one: forgetting the last picture of a class must not
    # renumber the others.
    classes = tuple(
        sorted(
            {
                entry.name
                for folder in splits.values()
                for entry in folder.iterdir()
                if entry.is_dir() and not entry.name.startswith(".")
            }
        )
    )
    if len(classes) < 2:
        raise StageError(f"{data.root} holds {len(classes)} class folder(s); a classifier needs at least 2")
    train, test = (_from_folder(folder, classes, data.image_size) for folder in splits.values())
    return Source(classes=classes, train=train, test=test, find=_find_path(train.ids))


def _from_folder(folder: Path, classes: Sequence[str], size: int) -> Samples:
    files = [path for name in classes for path in (folder / name).rglob("*") if path.is_file()]
    paths = sorted(path for path in files if path.suffix.lower() in PICTURE_SUFFIXES)
    if len(paths) < len(files):
        suffixes = ", ".join(PICTURE_SUFFIXES)
        print(f"{folder}: {len(files) - len(paths)} files passed over, not named as pictures ({suffixes})")
    ids = tuple(path.relative_to(folder).as_posix() for path in paths)
    for sample_id in ids:
        if (
            sample_id.startswith("#")
            or " #" in sample_id
            or sample_id != sample_id.strip()
            or not sample_id.isprintable()
        ):
            raise StageError(
                f"{folder}: the name {sample_id!r} could not be written in a forget list (it starts with '#', or holds "
                "' #', an outer space or an unprintable character); rename the file"
            )
    labels = np.array([classes.index(path.relative_to(folder).parts[0]) for path in paths], np.int64)
    return Samples(
        ids=ids,
        labels=labels,
        fingerprints=tuple(_fingerprint(path.read_bytes(), size) for path in paths),
        decode=lambda index: _decode_file(paths[index], size),
    )


def _find_path(ids: Sequence[str]) -> Callable[[str], int | None]:
    positions = {sample_id: index for index, sample_id in enumerate(ids)}
    spellings = {unicodedata.normalize("NFC", sample_id): sample_id for sample_id in ids}

    def find(sample_id: str) -> int | None:
        if sample_id in positions:
            return positions[sample_id]
        path = PurePosixPath(sample_id)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("an id is a path below train/, this one leads outside")
        if str(path) != sample_id or "\\" in sample_id or len(path.parts) < 2:
            raise ValueError("an id is spelt CLASS/NAME, relative to train/")
        same = spellings.get(unicodedata.normalize("NFC", sample_id))
        if same is not None:
            raise ValueError(f"spelt with other Unicode characters than the file {same!r}; copy that name")
        return None

    return find


def _decode_file(path: Path, size: int) -> Picture:
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise StageError(f"{path}: pixels of mode {image.mode}; save it with 8 bits a channel")
            return _resize(ImageOps.exif_transpose(image), size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StageError(f"{path}: not a readable picture ({error}); mend or remove the file") from error


def _resize(image: Image.Image, size: int) -> Picture:
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _fingerprint(content: bytes, size: int) -> str:
    return hashlib.sha256(f"{size} {_decoder()}\0".encode() + content).hexdigest()


@cache
def _decoder() -> str:
    """What decodes: this code and Pillow; either may come to other pixels when it changes."""
    return f"{PIL.__version__} {code_digest(Path(__file__).read_text(encoding='utf-8'))}"
