"""The user's own pictures: ``train/CLASS/*`` and ``test/CLASS/*``. An id is a path below ``train/``."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from serving.pictures.bad import BadPicture
from serving.pictures.decoding import TRAINING_FORMATS, decode_upright, resized
from training.data.listing import SPLITS, Listing, list_pictures, shown
from training.data.prints import take_prints
from training.data.source import Samples, Source, fingerprint
from training.data.store import Decoded
from training.errors import ChangedError, SourceError
from training.memory.digests import FileDigests

NAMED = 20  # problems; more are counted


def imagefolder(root: Path, size: int, digests: FileDigests) -> Source:
    """Raises SourceError naming all that keeps ``root`` from being used: see ``list_pictures``."""
    found = list_pictures(root)
    if found.problems:
        more = [f"  … and {len(found.problems) - NAMED} more"] if len(found.problems) > NAMED else []
        lines = [f"{root} cannot be used; nothing was changed", *(f"  {line}" for line in found.problems[:NAMED])]
        raise SourceError("\n".join(lines + more))
    train, test = (read_split(root, split, found, size, digests) for split in SPLITS)
    return Source(
        classes=found.classes,
        train=train,
        test=test,
        find=find_path(train.ids, found.classes),
        skipped=found.skipped,
        files=tuple(f"{split}/{name}" for split in SPLITS for name in found.pictures[split]),
    )


def read_split(root: Path, split: str, found: Listing, size: int, digests: FileDigests) -> Samples:
    """The pictures of a split; an id is a path below its folder that begins with the class.

    Raises SourceError naming a file that cannot be read, ChangedError naming one that was there when it was listed.
    """
    ids = found.pictures[split]
    number = {name: index for index, name in enumerate(found.classes)}
    contents = tuple(content_of(root, f"{split}/{sample_id}", digests) for sample_id in ids)
    return Samples(
        ids=tuple(ids),
        labels=np.array([number[sample_id.split("/")[0]] for sample_id in ids], np.int64),
        contents=contents,
        fingerprints=tuple(fingerprint(content, size) for content in contents),
        decode=lambda index: read_picture(root / split / ids[index], size, contents[index]),
    )


def read_picture(path: Path, size: int, digest: bytes | None = None) -> Decoded:
    """The picture as an image, and its prints; ``digest``: the SHA-256 of the file when the source was read, if it was.

    Raises SourceError naming a file that cannot be read or decoded, ChangedError one that is another by now.
    """
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).digest()
        if digest not in (None, found):
            raise ChangedError(f"{shown(path)} changed while the source was read; run it again")
        picture = decode_upright(io.BytesIO(content), formats=TRAINING_FORMATS)
        pixels = np.asarray(picture.convert("RGB"))
        # One that has the size already is its own image; it need not be copied again.
        image = pixels if pixels.shape[:2] == (size, size) else resized(picture, (size, size))
        return Decoded(image, take_prints(found, pixels))
    except OSError as error:
        raise unreadable(path, error) from error
    except BadPicture as error:
        raise SourceError(f"{shown(path)}: not a readable picture ({error}); fix or remove the file") from error
    except MemoryError as error:
        raise SourceError(f"{shown(path)}: there is not enough memory to decode it; make it smaller") from error


def content_of(root: Path, name: str, digests: FileDigests) -> bytes:
    """The SHA-256 of a file's bytes."""
    try:
        return digests.digest(name)
    except OSError as error:
        raise unreadable(root / name, error) from error


def unreadable(path: Path, error: OSError) -> ChangedError | SourceError:
    """What reading a file raised, as an error that names it."""
    if isinstance(error, FileNotFoundError):
        return ChangedError(f"{shown(path)} vanished while the source was read; run it again")
    return SourceError(f"{shown(path)} cannot be read ({error.strerror}); allow reading it, or remove it")


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
