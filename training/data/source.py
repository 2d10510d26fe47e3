"""Where samples come from: the embedded digits, CIFAR-10, or the user's own folder of pictures.

A source knows the id, label and fingerprint of every sample and decodes a picture only when asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import serving.pictures
from training.data.store import Decoded
from training.data.subjects import bad_names, read_subjects, refuse, subject_of_path
from training.errors import SourceError
from training.memory.digests import FileDigests
from training.params import Data
from training.syntax import folder_digest


@dataclass(frozen=True)
class Samples:
    """Some samples of one split.

    ``ids``: stable names. ``labels``: (N,) int64 in [0, classes). ``contents``: 32 bytes each, the SHA-256
    of the file's bytes, or of the array's. ``fingerprints``: 32 bytes each, the SHA-256 of what an image is
    decoded from and how, so that an unchanged one need not be decoded again. ``decode(i)``: image i,
    (size, size, 3) uint8, and the prints of its picture. ``subjects``: the name of each one's subject, ``""`` where
    none is known.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    contents: tuple[bytes, ...]
    fingerprints: tuple[bytes, ...]
    decode: Callable[[int], Decoded]
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.subjects:
            object.__setattr__(self, "subjects", ("",) * len(self.ids))


@dataclass(frozen=True)
class Source:
    """A training split, a test split, and the meaning of an id.

    ``find(id)``: position of the training sample of that id, or None when it is a valid id whose
    picture is already gone. Raises ValueError saying why an id cannot exist. ``skipped``: what lies in
    the source but is not taken, a sentence each. ``files``: those below the source's folder that
    samples are read from, where a sample is a file: DVC has to notice when one is gone. ``subjects``: the names
    of all that are known, also of those of whom no training sample is left. ``table``: the table of subjects as it
    was read, where there is one.
    """

    classes: tuple[str, ...]
    train: Samples
    test: Samples
    find: Callable[[str], int | None]
    skipped: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    subjects: frozenset[str] = frozenset()
    table: Mapping[str, str] | None = None


def open_source(data: Data, root: Path, subjects_file: Path | None, digests: FileDigests | None = None) -> Source:
    """The source that ``data.source`` names; ``root``: the folder that ``data.root`` stands for.

    ``subjects_file``: the table that ``data.subjects`` stands for, if it is one. ``digests``: of the source's files,
    so that those that are as they were are not read; every file that samples come from is looked up there. Raises
    SourceError when source or table is not there, not readable, or names what does not exist, ChangedError when a file
    changes or vanishes meanwhile.
    """
    from training.data import arrays, imagefolder

    opener = {"digits": arrays.digits, "cifar10": arrays.cifar10, "imagefolder": imagefolder.imagefolder}[data.source]
    source = opener(root, data.image_size, digests or FileDigests(root))
    if subjects_file is not None:
        return with_table(source, read_subjects(subjects_file), subjects_file)
    return with_folders(source, root) if data.subjects == "folder" else source


def with_folders(source: Source, root: Path) -> Source:
    """The samples of each split with the subjects that the folders of their ids name."""
    train, test = (
        replace(samples, subjects=tuple(subject_of_path(sample_id) for sample_id in samples.ids))
        for samples in (source.train, source.test)
    )
    refuse(root, bad_names([*train.subjects, *test.subjects]))
    return replace(source, train=train, test=test, subjects=frozenset(train.subjects) - {""})


def with_table(source: Source, table: Mapping[str, str], path: Path) -> Source:
    """The training samples with the subjects that a table (of ``read_subjects``) gives to their ids.

    Raises SourceError naming every id that cannot exist, or when not one of them is that of a sample.
    """
    missing = table.keys() - set(source.train.ids)
    problems = []
    for sample_id in sorted(missing):
        try:
            source.find(sample_id)
        except ValueError as error:
            problems.append(f"{sample_id!r} names no training sample: {error}")
    refuse(path, problems)
    if len(missing) == len(table):
        raise SourceError(f"{path} names no sample that is in the source; is it the table of another one?")
    gone = (f"{path}: {len(missing)} lines skipped, their samples are not in the source",) if missing else ()
    return replace(
        source,
        train=replace(source.train, subjects=tuple(table.get(sample_id, "") for sample_id in source.train.ids)),
        skipped=source.skipped + gone,
        subjects=frozenset(table.values()),
        table=table,
    )


def fingerprint(content: bytes, size: int) -> bytes:
    """SHA-256 of what an image of ``size`` × ``size`` is decoded from, and of what decodes it.

    ``content``: the SHA-256 of the file's bytes, or of the array's.
    """
    return hashlib.sha256(f"{size} {decoder()}\0".encode() + content).digest()


@cache
def decoder() -> str:
    """The decoder's code and what it decodes with; any of them may come to other pixels when it changes."""
    versions = [f"{name} {version(name)}" for name in ("pillow", "simplejpeg")]
    return " ".join([*versions, folder_digest(Path(serving.pictures.__path__[0]))])
