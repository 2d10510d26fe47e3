"""Sources that are arrays already: scikit-learn's digits and CIFAR-10. An id is a sample's number."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from serving.pictures.decoding import resized
from training.data.prints import take_prints
from training.data.source import Samples, Source, fingerprint
from training.data.store import Decoded
from training.errors import SourceError
from training.memory.digests import FileDigests

CIFAR10 = "cifar-10-batches-py"
CIFAR10_SHA256 = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
}  # of the published python version


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
    """CIFAR-10's python batches; torchvision downloads them into ``root`` where they are not there, or are others.

    Raises SourceError when that is not possible.
    """
    if not is_complete(digests):
        download(root, digests)
    *train, test, meta = (read_batch(root, name) for name in CIFAR10_SHA256)
    images, labels = (np.concatenate([part[key] for part in train]) for key in ("data", "labels"))
    return Source(
        classes=tuple(meta["label_names"]),
        train=from_array(in_pixels(images), labels.astype(np.int64), size),
        test=from_array(in_pixels(test["data"]), np.array(test["labels"], np.int64), size),
        find=find_number(len(labels)),
    )


def is_complete(digests: FileDigests) -> bool:
    """Whether every file is the published one. A pickle may be opened only then."""
    try:
        return all(digests.digest(f"{CIFAR10}/{name}").hex() == sha256 for name, sha256 in CIFAR10_SHA256.items())
    except OSError:
        return False


def download(root: Path, digests: FileDigests) -> None:
    from torchvision.datasets import CIFAR10 as TORCHVISIONS  # takes seconds to import

    try:
        TORCHVISIONS(root, download=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"data.source is cifar10, but {root} holds no complete copy and it could not be "
            f"downloaded ({error}); unpack cifar-10-python.tar.gz there"
        ) from error
    if not is_complete(digests):
        raise SourceError(f"{root / CIFAR10} does not hold the published files; delete it and run it again")


def read_batch(root: Path, name: str) -> dict[str, Any]:
    with (root / CIFAR10 / name).open("rb") as file:
        batch: dict[str, Any] = pickle.load(file, encoding="latin1")  # as Python 2 wrote it
    return batch


def in_pixels(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3072) channel by channel to (N, 32, 32, 3)."""
    pixels = np.empty((len(rows), 1024, 3), np.uint8)
    for channel, plane in enumerate(np.split(rows, 3, axis=1)):  # three times as fast as one transposition
        pixels[:, :, channel] = plane
    return pixels.reshape(-1, 32, 32, 3)


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
