"""The user's own pictures: ``train/CLASS/*`` and ``test/CLASS/*``. An id is a path below ``train/``."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from serving.pictures.bad import BadPicture
from serving.pictures.decoding import decode_picture
from training.data.listing import SPLITS, list_pictures, shown
from training.data.source import Samples, Source, fingerprint
from training.data.store import Image
from training.errors import SourceError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
NAMED = 20  # problems; more are counted


def imagefolder(root: Path, size: int) -> Source:
    """Raises SourceError naming all that keeps ``root`` from being used: see ``list_pictures``."""
    found = list_pictures(root)
    if found.problems:
        more = [f"  … and {len(found.problems) - NAMED} more"] if len(found.problems) > NAMED else []
        lines = [f"{root} cannot be used; nothing was changed", *(f"  {line}" for line in found.problems[:NAMED])]
        raise SourceError("\n".join(lines + more))
    train, test = (read_folder(root / split, found.pictures[split], found.classes, size) for split in SPLITS)
    return Source(
        classes=found.classes,
        train=train,
        test=test,
        find=find_path(train.ids, found.classes),
        skipped=found.skipped,
        files=tuple(f"{split}/{name}" for split in SPLITS for name in found.pictures[split]),
    )


def read_folder(folder: Path, ids: Sequence[str], classes: Sequence[str], size: int) -> Samples:
    """The pictures of a split; an id is a path below ``folder`` that begins with the class.

    Raises SourceError naming a file that cannot be read, also when it was there when it was listed.
    """
    number = {name: index for index, name in enumerate(classes)}
    return Samples(
        ids=tuple(ids),
        labels=np.array([number[sample_id.split("/")[0]] for sample_id in ids], np.int64),
        fingerprints=tuple(fingerprint(read_file(folder / sample_id), size) for sample_id in ids),
        decode=lambda index: read_picture(folder / ids[index], size),
    )


def read_picture(path: Path, size: int) -> Image:
    """The picture as an image; raises SourceError naming the file when it cannot be read or decoded."""
    try:
        image, _ = decode_picture(io.BytesIO(read_file(path)), (size, size), formats=FORMATS)
    except BadPicture as error:
        raise SourceError(f"{shown(path)}: not a readable picture ({error}); fix or remove the file") from error
    except MemoryError as error:
        raise SourceError(f"{shown(path)}: there is not enough memory to decode it; make it smaller") from error
    return image


def read_file(path: Path) -> bytes:
    """A file's bytes; raises SourceError naming it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{shown(path)} vanished while the source was read; run it again") from None
    except OSError as error:
        raise SourceError(f"{shown(path)} cannot be read ({error.strerror}); allow reading it, or remove it") from error
    except MemoryError as error:
        raise SourceError(f"{shown(path)}: there is not enough memory to read it; remove it") from error


def find_path(ids: Sequence[str], classes: Sequence[str]) -> Callable[[str], int | None]:
    """``Source.find`` where ids are paths below a class."""
    positions = {sample_id: index for index, sample_id in enumerate(ids)}
    cases = {sample_id.casefold(): sample_id for sample_id in ids}
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
        if path.parts[0] not in classes:
            raise ValueError(f"there is no class {path.parts[0]!r}; the classes are {', '.join(classes)}")
        same = cases.get(sample_id.casefold())
        if same is not None:
            raise ValueError(f"upper and lower case differ from those of the file {same!r}; copy that name")
        return None

    return find
