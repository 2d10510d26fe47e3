"""The user's own pictures: ``train/CLASS/*`` and ``test/CLASS/*``. An id is a path below ``train/``."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from serving.pictures.bad import BadPicture
from serving.pictures.decoding import decode_picture
from training.data.source import Samples, Source, fingerprint
from training.data.store import Image
from training.errors import SourceError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def imagefolder(root: Path, size: int) -> Source:
    """Raises SourceError when ``root`` is of another shape, or a name could not stand in a forget list."""
    splits = {split: root / split for split in ("train", "test")}
    for folder in splits.values():
        if not folder.is_dir():
            raise SourceError(
                f"data.source is imagefolder, but {folder} is not a folder; expected "
                f"{root}/train/CLASS/* and {root}/test/CLASS/*"
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
        raise SourceError(f"{root} holds {len(classes)} class folder(s); a classifier needs at least 2")
    found = [find_pictures(folder, classes) for folder in splits.values()]
    train, test = (
        read_folder(folder, paths, classes, size) for folder, (paths, _) in zip(splits.values(), found, strict=True)
    )
    suffixes = ", ".join(SUFFIXES)
    skipped = tuple(
        f"{folder}: {count} files skipped, not named as pictures ({suffixes})"
        for folder, (_, count) in zip(splits.values(), found, strict=True)
        if count
    )
    return Source(classes=classes, train=train, test=test, find=find_path(train.ids), skipped=skipped)


def find_pictures(folder: Path, classes: Sequence[str]) -> tuple[list[Path], int]:
    """The pictures of a split, sorted, and how many files beside them are not named as pictures."""
    files = [path for name in classes for path in (folder / name).rglob("*") if path.is_file()]
    paths = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    return paths, len(files) - len(paths)


def read_folder(folder: Path, paths: Sequence[Path], classes: Sequence[str], size: int) -> Samples:
    ids = tuple(path.relative_to(folder).as_posix() for path in paths)
    for sample_id in ids:
        if (
            sample_id.startswith("#")
            or " #" in sample_id
            or sample_id != sample_id.strip()
            or not sample_id.isprintable()
        ):
            raise SourceError(
                f"{folder}: the name {sample_id!r} could not be written in a forget list (it starts with '#', or holds "
                "' #', a leading or trailing space, or an unprintable character); rename the file"
            )
    labels = np.array([classes.index(path.relative_to(folder).parts[0]) for path in paths], np.int64)
    return Samples(
        ids=ids,
        labels=labels,
        fingerprints=tuple(fingerprint(path.read_bytes(), size) for path in paths),
        decode=lambda index: read_picture(paths[index], size),
    )


def read_picture(path: Path, size: int) -> Image:
    """The picture as an image; raises SourceError naming the file when it cannot be decoded."""
    try:
        with path.open("rb") as file:
            image, _ = decode_picture(file, (size, size), formats=FORMATS)
    except (OSError, BadPicture) as error:
        raise SourceError(f"{path}: not a readable picture ({error}); fix or remove the file") from error
    return image


def find_path(ids: Sequence[str]) -> Callable[[str], int | None]:
    """``Source.find`` where ids are paths."""
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
