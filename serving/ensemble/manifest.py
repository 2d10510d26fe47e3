"""What is served, as a file: ``models/ensemble.json``, written and read through the models here.

A *release* is what training offers to serve; the *manifest* is a release that was published, under the
number of its generation.
"""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.ensemble.aggregation import Aggregation


class EnsembleUnavailable(RuntimeError):
    """The published models cannot be loaded, so nothing may be served."""


class ShardEntry(BaseModel):
    """One shard; one that abstains (all its samples are forgotten, or it is pending) has no file.

    ``retained``: samples its model was trained on. ``key``: hex SHA-256, the last of its key chain.
    ``file``: of its ONNX model, relative to the folder of the release. ``sha256``: of that file, in hex.
    ``pending``: its model was withdrawn, and no other has been published yet. ``earlier_slice``: the slice
    after which its model was taken, where that is not the last one, since a later one saw what was withdrawn.
    """

    model_config = ConfigDict(frozen=True)

    shard: int = Field(ge=0)
    retained: int = Field(ge=0)
    key: str
    abstains: bool
    file: str | None
    sha256: str | None
    pending: bool = False
    earlier_slice: int | None = Field(default=None, ge=0)

    def withdrawn(self) -> ShardEntry:
        """The same shard without its model."""
        nothing = {"abstains": True, "file": None, "sha256": None, "pending": True, "earlier_slice": None}
        return self.model_copy(update=nothing)


class Forgotten(BaseModel):
    """The forget lists: ids listed, those of them gone from the source, SHA-256 of the sorted ids."""

    model_config = ConfigDict(frozen=True)

    listed: int
    already_gone: int
    sha256: str


class BackboneEntry(BaseModel):
    """The network whose features all shards' models take in place of images. ``features``: how many."""

    model_config = ConfigDict(frozen=True)

    file: str
    sha256: str
    features: int = Field(ge=1)


class Release(BaseModel):
    """An ensemble that could be served: every shard with its model, or the word that it abstains.

    ``image_shape``: (H, W, 3) of the images that the backbone takes, or every model where there is none.
    ``placement_key_digest``: hex SHA-256 that tells which secret key placed the samples; None where none did.
    """

    model_config = ConfigDict(frozen=True)

    aggregation: Aggregation
    classes: tuple[str, ...] = Field(min_length=2)
    image_shape: tuple[int, int, Literal[3]]
    forgotten: Forgotten
    shards: tuple[ShardEntry, ...]
    placement_key_digest: str | None = None
    backbone: BackboneEntry | None = None

    @model_validator(mode="after")
    def _check_shards(self) -> Self:
        """A shard that was lost or counted twice would distort the vote and its robustness without a sign."""
        if len({shard.shard for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is listed twice")
        for shard in self.shards:
            if shard.abstains != (shard.file is None):
                raise ValueError(f"shard {shard.shard} must either abstain or have a file")
            if shard.pending and not (shard.abstains and shard.sha256 is None):
                raise ValueError(f"shard {shard.shard} is pending, so it must abstain and have neither file nor sha256")
            if shard.earlier_slice is not None and shard.abstains:
                raise ValueError(f"shard {shard.shard} abstains, so it cannot answer from an earlier slice")
        return self

    @property
    def voters(self) -> tuple[ShardEntry, ...]:
        """The shards that have a model."""
        return tuple(shard for shard in self.shards if shard.file is not None)

    @property
    def shard_ids(self) -> tuple[int, ...]:
        """The numbers of ``voters``, in the order in which their models answer."""
        return tuple(shard.shard for shard in self.voters)

    def without(self, digests: Set[str]) -> Self:
        """The same release, its models of these SHA-256 withdrawn; itself when it lists none of them."""
        if not any(shard.sha256 in digests for shard in self.voters):
            return self
        shards = tuple(shard.withdrawn() if shard.sha256 in digests else shard for shard in self.shards)
        return self.model_copy(update={"shards": shards})

    def to_bytes(self) -> bytes:
        """The one spelling in JSON: equal releases are equal bytes, so a digest of the file is one of the content.

        What has its default is left out, so that a release is spelt as it was before there was such a field.
        """
        document = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


class LedgerHead(BaseModel):
    """How far the ledger had come: its number of entries, and the hex SHA-256 of the last one."""

    model_config = ConfigDict(frozen=True)

    length: int = Field(ge=1)
    head: str = Field(pattern="^[0-9a-f]{64}$")


class OpenRequests(BaseModel):
    """Requests to forget that are not done yet. ``oldest``: when the first of them was made."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(ge=1)
    oldest: AwareDatetime


class Manifest(Release):
    """A published release.

    ``generation``: 1 for the first, one more for each that replaces it. ``ledger``: as it was before the entry
    of this generation, which has the manifest's digest; None where whoever published did not say.
    ``open_requests``: as they are once this generation is published; None where there are none.
    """

    generation: int = Field(ge=1, le=2**53)  # what a number in JSON can tell exactly
    ledger: LedgerHead | None = None
    open_requests: OpenRequests | None = None


AnyRelease = TypeVar("AnyRelease", bound=Release)


def parse_release(content: bytes, path: Path) -> Release:
    """Raises EnsembleUnavailable when ``content`` (of ``path``) is not JSON, lacks something, or nothing can answer.

    Nothing can answer when no shard has a model; where one is pending that is a release all the same.
    """
    return _parse(Release, content, path, "release")


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Raises EnsembleUnavailable when ``content`` (of ``path``) is not JSON, lacks something, or nothing can answer.

    Nothing can answer when no shard has a model; where one is pending that is a release all the same.
    """
    return _parse(Manifest, content, path, "manifest")


def read_manifest(path: Path) -> bytes:
    """Raises EnsembleUnavailable when the manifest cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise EnsembleUnavailable(f"{path} is missing; run `sisa publish`, after `dvc repro` or `dvc pull`") from None
    except OSError as error:
        raise EnsembleUnavailable(f"{path} cannot be read: {error}") from error


def _parse(model: type[AnyRelease], content: bytes, path: Path, name: str) -> AnyRelease:
    try:
        release = model.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EnsembleUnavailable(f"{path} is not a {name}: {where + ': ' if where else ''}{problem['msg']}") from None
    if not release.voters and not any(shard.pending for shard in release.shards):
        raise EnsembleUnavailable(f"{path} lists no shard that has a model")
    return release
