"""Looks into files for what must not be found any more, whatever they are called and wherever they lie.

Shard files, checkpoints, ONNX files and pictures are known by what is in them; archives (tar, zip and with it .npz,
compressed or not) are looked into, also one in another.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from training.data.prints import PRINTS
from training.data.store import load_shard
from training.erasure.superseded import Superseded
from training.errors import DamagedError, SourceError

DEEPEST = 4  # archives in archives
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM")  # what they begin with
# One file each, where it is no tar.
PACKED: Mapping[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
# RuntimeError: with a password.
UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError),
    *(zlib.error, lzma.LZMAError, NotImplementedError),
)


class Trace(BaseModel):
    """``path``: of the file, with ``!`` before the name of what is in an archive. ``what``: a few words."""

    model_config = ConfigDict(frozen=True)

    path: str
    what: str


class Scanner:
    """``traces``: what was found. ``unread``: what could not be looked into, with the reason."""

    def __init__(self, wanted: Superseded) -> None:
        self.wanted = wanted
        self.traces: list[Trace] = []
        self.unread: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def scan(self, files: Iterable[Path]) -> None:
        """Look into these files, each once, under however many names it is there."""
        for path in tqdm(list(files), desc="scan", unit="file", leave=False, disable=None):
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) not in self._seen:
                    self._seen.add((status.st_dev, status.st_ino))
                    self._look_into(path, shown(path), 0)
            except FileNotFoundError:
                continue  # it went while others were looked into, and what was in it with it
            except PermissionError as error:
                self.unread.append(f"{shown(path)}: {error.strerror}")

    def _look_into(self, path: Path, name: str, depth: int) -> None:
        with path.open("rb") as file:
            head = file.read(512)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
        what = None
        if digest.hexdigest() in self.wanted.models:
            what = "a model that was published before"
        elif self.wanted.shows(digest.digest()):
            what = "the file of a forgotten picture"
        elif head.startswith(b"\x93NUMPY"):
            what = in_array(path, self.wanted)
        elif head.startswith(PICTURES):
            what = in_picture(path, self.wanted)
        elif head[8:9] == b"{":  # after eight bytes that say how long the header is
            what = in_safetensors(path, self.wanted)
        elif head.startswith(b"\x08"):  # ir_version, the first field
            what = in_onnx(path, self.wanted)
        elif head.startswith((b"PK\3\4", *PACKED)) or is_tar(path):
            self._look_into_archive(path, name, depth)
        if what is not None:
            self.traces.append(Trace(path=name, what=what))

    def _look_into_archive(self, path: Path, name: str, depth: int) -> None:
        """Members are unpacked one at a time, into a file that is deleted again."""
        if depth == DEEPEST:
            self.unread.append(f"{name}: an archive in {DEEPEST} others")
            return
        try:
            for member, content in members(path):
                with tempfile.NamedTemporaryFile(prefix="sisa-scan-") as file:
                    file.write(content)
                    file.flush()
                    self._look_into(Path(file.name), f"{name}!{member}", depth + 1)
        except UNREADABLE as error:
            self.unread.append(f"{name}: {error}")


def shown(path: Path) -> str:
    """A path as text that can be written anywhere, also one whose name is no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except UNREADABLE:
        return False


def files_below(
    folder: Path, left_out: Iterable[Path] = (), unread: Callable[[str], object] = lambda _: None
) -> Iterator[Path]:
    """Every regular file, but for those in or at ``left_out``; no link is followed.

    ``unread``: is told of each folder that cannot be read, with the reason.
    """
    skipped = set(left_out)

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unread(f"{shown(Path(error.filename))}: {error.strerror}")

    for home, folders, names in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if Path(home, name) not in skipped)
        for path in (Path(home, name) for name in sorted(names)):
            if path not in skipped and path.is_file() and not path.is_symlink():
                yield path


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in an archive. Raises one of ``UNREADABLE``."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield info.filename, archive.read(info)
        return
    if not is_tar(path):
        with path.open("rb") as head:
            kind = head.read(6)
        with next(opened for magic, opened in PACKED.items() if kind.startswith(magic))(path) as file:
            yield "", file.read()
        return
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


# What is in a file of one kind, in a few words; None where it is no trace, or another kind of file.


def in_array(path: Path, wanted: Superseded) -> str | None:
    try:
        shard = load_shard(path)
    except DamagedError:
        return None  # another array than a shard file
    found = wanted.among(shard.ids, shard.prints)
    return f"a shard file with {found} forgotten samples" if found else None


def in_picture(path: Path, wanted: Superseded) -> str | None:
    from training.data.imagefolder import read_picture

    prints = np.zeros(1, PRINTS)
    try:
        prints["upright"] = np.frombuffer(read_picture(path, 8).prints.upright, np.uint8)
    except SourceError:
        return None  # nothing that could be trained on
    return "the pixels of a forgotten picture" if wanted.among([""], prints) else None


def in_safetensors(path: Path, wanted: Superseded) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            key = json.loads((file.metadata() or {})["sisa"])["record"]["key"]
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None  # another file than a checkpoint
    return "a checkpoint that no model of today builds upon" if key in wanted.keys else None


def in_onnx(path: Path, wanted: Superseded) -> str | None:
    try:
        said = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    except (DecodeError, ValueError):
        return None
    return "a model with the key of an earlier generation" if said.get("key") in wanted.keys else None
