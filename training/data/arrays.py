"""Sources that are arrays already: scikit-learn's digits and CIFAR-10. An id is a sample's number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from serving.pictures.decoding import resized
from training.data.prints import take_prints
from training.data.source import Samples, Source, fingerprint
from training.data.store import Decoded
from training.errors import SourceError
from training.memory.digests import FileDigests


def digits(root: Path, size: int, digests: FileDigests) -> Source:
    """Scikit-learn's handwritten digits; neither ``root`` nor ``digests`` is used, since a version's never change."""
    images, labels = read_digits()
    # The test split: every fifth image of each class, in scikit-learn's order.
    rank = np.zeros(len(labels), np.int64)
    for label in range(10):
        rank[labels == label] = np.arange((labels == label).sum())
    test = rank % 5 == 4
    return Source(
        classes=tuple(str(digit) for digit in range(10)),
        train=from_array(images[~test], labels[~test], size),
        test=from_array(images[test], labels[test], size),
        find=find_number(int((~test).sum())),
    )


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(1797, 8, 8, 3) images, white being 255, and (1797,) labels: ``sklearn.datasets.load_digits``.

    From the file that comes with scikit-learn: importing scikit-learn takes longer than the rest of the stage.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    grey = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return grey[..., None].repeat(3, axis=-1), table[:, -1].astype(np.int64)


def cifar10(root: Path, size: int, digests: FileDigests) -> Source:
    """CIFAR-10 as torchvision has it, which checks what it reads; downloaded into ``root`` when it is not there.

    Raises SourceError when that is not possible.
    """
    from torchvision.datasets import CIFAR10

    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    try:
        train, test = (CIFAR10(root, train=split, download=True) for split in (True, False))
        for name in (*names, CIFAR10.meta["filename"]):
            digests.digest(f"{CIFAR10.base_folder}/{name}")
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"data.source is cifar10, but {root} holds no complete copy and it could not be "
            f"downloaded ({error}); unpack cifar-10-python.tar.gz there"
        ) from error
    return Source(
        classes=tuple(train.classes),
        train=from_array(train.data, np.array(train.targets, np.int64), size),
        test=from_array(test.data, np.array(test.targets, np.int64), size),
        find=find_number(len(train.data)),
    )


def from_array(images: NDArray[np.uint8], labels: NDArray[np.int64], size: int) -> Samples:
    """Samples of (N, H, W, 3) images, resized to ``size`` × ``size`` when they are decoded."""
    contents = tuple(hashlib.sha256(image.tobytes()).digest() for image in images)

    def decode(index: int) -> Decoded:
        pixels = images[index]
        return Decoded(resized(PIL.Image.fromarray(pixels), (size, size)), take_prints(contents[index], pixels))

    return Samples(
        ids=tuple(str(index) for index in range(len(images))),
        labels=labels,
        contents=contents,
        fingerprints=tuple(fingerprint(content, size) for content in contents),
        decode=decode,
    )


def find_number(count: int) -> Callable[[str], int]:
    """``Source.find`` where ids are 0 to ``count`` - 1."""

    def find(sample_id: str) -> int:
        if not sample_id.isascii() or not sample_id.isdecimal() or str(int(sample_id)) != sample_id:
            raise ValueError(f"an id is a number written plainly, 0 to {count - 1}")
        if int(sample_id) >= count:
            raise ValueError(f"out of range: ids are 0 to {count - 1}")
        return int(sample_id)

    return find
