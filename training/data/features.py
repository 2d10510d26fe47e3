"""Features of a frozen backbone, ``data/features/…/shard-K.safetensors``: a row for each sample that is retained.

A file lies beside the shard's own, in its order, and goes by pixels: a row is of the picture whose digest stands with
it. It says which backbone and which environment made the rows; training/stages/features.py writes it.
Letters: N samples, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from training.data.store import Shard
from training.errors import DamagedError
from training.files import write_atomic

DIGEST = 32  # bytes


class Maker(BaseModel):
    """What the bits of features depend on beside the pictures. ``backbone``: hex SHA-256 of its file.

    ``instructions``: those of the CPU that linear algebra uses, as OpenBLAS names them. Another version, provider or
    CPU may round otherwise, so rows of two environments are never mixed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    onnxruntime: str
    provider: str
    instructions: str


@dataclass(frozen=True)
class FeatureRows:
    """What a key knows of features. ``width``: D. ``digests``: of each sample's row, SHA-256."""

    width: int
    digests: Sequence[bytes]


@dataclass(frozen=True)
class Features:
    """A file as it was opened, whatever takes its place meanwhile.

    ``pictures``: of each row the digest of the picture it is of. ``digests``: of each row its own, SHA-256.
    """

    path: Path
    maker: Maker
    pictures: list[bytes]
    digests: list[bytes]
    file: Any  # safetensors' own, memory-mapped

    @property
    def width(self) -> int:
        """D."""
        return int(self.file.get_slice("features").get_shape()[1])

    def rows(self, numbers: Sequence[int] | None = None) -> NDArray[np.float32]:
        """All rows, (N, D), or those of these ``numbers``, each checked, in memory.

        Raises DamagedError when one is not what its digest says.
        """
        rows: NDArray[np.float16] = self.file.get_tensor("features")
        digests = self.digests
        if numbers is not None:
            rows, digests = rows[list(numbers)], [digests[number] for number in numbers]
        if row_digests(rows) != digests:
            raise DamagedError(f"{self.path} is damaged (its rows are not what their digests say)")
        return rows.astype(np.float32)

    def of(self, shard: Shard) -> FeatureRows:
        """Those of a shard's samples. Raises DamagedError when these are not the file's, one to one."""
        if self.pictures != shard.digests:
            raise DamagedError(f"{self.path} does not hold the features of {shard.path}; run `dvc repro features`")
        return FeatureRows(self.width, self.digests)


def row_digests(rows: NDArray[np.float16]) -> list[bytes]:
    """SHA-256 of each row's bytes."""
    return [hashlib.sha256(row).digest() for row in np.ascontiguousarray(rows)]


def write_features(path: Path, maker: Maker, pictures: Sequence[bytes], rows: NDArray[np.float32]) -> None:
    """Write a file, all or nothing; equal input gives equal bytes.

    ``rows``: (N, D), of ``pictures`` in their order, rounded to half precision as a backbone gives them.
    """
    from safetensors.numpy import save

    halves = np.ascontiguousarray(rows, np.float16)
    tensors: dict[str, NDArray[Any]] = {
        "pictures": _matrix(pictures),
        "digests": _matrix(row_digests(halves)),
        "features": halves,
    }
    write_atomic(path, save(tensors, {"sisa": maker.model_dump_json()}))


def _matrix(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST)


def read_features(path: Path) -> Features:
    """Open a file without reading its rows. Raises DamagedError when it is missing or not one."""
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="np")
        maker = Maker.model_validate_json((file.metadata() or {})["sisa"])
        pictures, digests = ([row.tobytes() for row in file.get_tensor(name)] for name in ("pictures", "digests"))
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; run `dvc repro features`") from None
    except (OSError, ValueError, KeyError, SafetensorError, ValidationError) as error:
        raise DamagedError(f"{path} is damaged ({error}); run `dvc repro features`") from error
    return Features(path, maker, pictures, digests, file)


@dataclass(frozen=True)
class FeatureIndex:
    """The rows of all shards by their picture: for plans of samples that are placed otherwise than the files are."""

    width: int
    digests: Mapping[bytes, bytes]

    def of(self, shard: Shard) -> FeatureRows:
        """Raises DamagedError when there is no row of one of the shard's samples."""
        try:
            return FeatureRows(self.width, [self.digests[picture] for picture in shard.digests])
        except KeyError:
            raise DamagedError("there are no features of some of the samples; run `dvc repro features`") from None


def index_features(paths: Iterable[Path]) -> FeatureIndex:
    """Of all these files. Raises DamagedError as ``read_features`` does."""
    files = [read_features(path) for path in paths]
    digests = {picture: digest for file in files for picture, digest in zip(file.pictures, file.digests, strict=True)}
    return FeatureIndex(files[0].width, digests)
