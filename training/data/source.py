"""Where samples come from: the embedded digits, CIFAR-10, or the user's own folder of pictures.

A source knows the id, label and fingerprint of every sample and decodes a picture only when asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import serving.pictures
from training.data.store import Image
from training.params import Data
from training.syntax import folder_digest


@dataclass(frozen=True)
class Samples:
    """Some samples of one split.

    ``ids``: stable names. ``labels``: (N,) int64 in [0, classes). ``fingerprints``: 32 bytes each, the
    SHA-256 of what an image is decoded from and how, so that an unchanged one need not be decoded
    again. ``decode(i)``: image i, (size, size, 3) uint8.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    fingerprints: tuple[bytes, ...]
    decode: Callable[[int], Image]


@dataclass(frozen=True)
class Source:
    """A training split, a test split, and the meaning of an id.

    ``find(id)``: position of the training sample of that id, or None when it is a valid id whose
    picture is already gone. Raises ValueError saying why an id cannot exist. ``skipped``: what lies in
    the source but is not taken, a sentence each. ``files``: those below the source's folder that
    samples are read from, where a sample is a file: DVC has to notice when one is gone.
    """

    classes: tuple[str, ...]
    train: Samples
    test: Samples
    find: Callable[[str], int | None]
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def open_source(data: Data, root: Path) -> Source:
    """The source that ``data.source`` names; ``root``: the folder that ``data.root`` stands for.

    Raises SourceError when it is not there or not readable.
    """
    from training.data import arrays, imagefolder

    opener = {"digits": arrays.digits, "cifar10": arrays.cifar10, "imagefolder": imagefolder.imagefolder}[data.source]
    return opener(root, data.image_size)


def fingerprint(content: bytes, size: int) -> bytes:
    """SHA-256 of what an image of ``size`` × ``size`` is decoded from, and of what decodes it."""
    return hashlib.sha256(f"{size} {_decoder()}\0".encode() + content).digest()


@cache
def _decoder() -> str:
    """The decoder's code and what it decodes with; any of them may come to other pixels when it changes."""
    versions = [f"{name} {version(name)}" for name in ("pillow", "simplejpeg")]
    return " ".join([*versions, folder_digest(Path(serving.pictures.__path__[0]))])
