"""What a ledger's entry can say. None of them names a sample: the ledger's export is in git."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from training.publish.record import ShardRecord

Hex = Annotated[str, StringConstraints(pattern="^([0-9a-f]{2})*$")]


class _Entry(BaseModel):
    """``number``: from 1. ``time``: UTC, ISO 8601. ``previous``: hex SHA-256 of the line before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    number: int = Field(ge=1)
    time: str
    actor: str
    previous: str


class ImportedShard(BaseModel):
    """A shard of a manifest that was there before the ledger: no more is known of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    retained: int
    key: str
    sha256: str | None


class Imported(_Entry):
    """The first entry of a workspace that had published before it had a ledger."""

    event: Literal["imported"] = "imported"
    generation: int
    manifest_sha256: str
    shards: tuple[ImportedShard, ...]


class Commitment(BaseModel):
    """To what a model was trained on, without saying what that is (training/publish/transcript.py).

    ``model``: SHA-256 of its file. ``root``: of a Merkle tree with so many ``leaves``. ``key_sha256``: of the key that
    the leaves are made with. All in hex.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: int
    model: str
    leaves: int
    root: str
    key_sha256: str


class Published(_Entry):
    """A generation: what it serves, what its shards were trained on, and what each slice cost.

    ``pending``: shards whose model was withdrawn and not yet replaced, or may not be. ``earlier_slice``: by shard, as
    text, the slice whose model answers in its place until then. ``transcript``: one for each model that answers with
    all its slices; none from a workspace that lacks the secret or the samples.
    """

    event: Literal["published"] = "published"
    generation: int
    manifest_sha256: str
    release_sha256: str
    shards: tuple[ShardRecord, ...]
    pending: tuple[int, ...] = ()
    earlier_slice: dict[str, int] = Field(default_factory=dict)
    transcript: tuple[Commitment, ...] = ()


class Requested(_Entry):
    """Samples are to be forgotten. From here on they never come back, whatever happens.

    ``request``: the list, or the request of `sisa forget add`. ``batch``: hex SHA-256 of the line in the suppression
    memory that has the samples. ``requester``: the person who asked, where that is not ``actor``.
    """

    event: Literal["requested"] = "requested"
    request: str
    samples: int
    batch: str
    reference: str | None = None
    approver: str | None = None


class Withdrawn(_Entry):
    """Models that saw what is to be forgotten, taken out for ever, by their SHA-256, and the generation without them.

    ``generation``: None when none of them was in what is published. ``requests``: whose samples they saw, and those
    whose samples no model saw; ``models`` may be empty.
    """

    event: Literal["withdrawn"] = "withdrawn"
    requests: tuple[str, ...]
    models: tuple[str, ...]
    shards: tuple[int, ...]
    generation: int | None = None
    manifest_sha256: str | None = None


class FellBack(_Entry):
    """A generation in which pending shards answer from an earlier slice, or no longer do; by shard, as text."""

    event: Literal["fell-back"] = "fell-back"
    generation: int
    manifest_sha256: str
    earlier_slice: dict[str, int]


class Confirmed(_Entry):
    """A service that answers from copies has confirmed all models that were withdrawn until then, so many of them.

    ``service``: its address.
    """

    event: Literal["confirmed"] = "confirmed"
    service: str
    models: int


class Reinstated(_Entry):
    """Samples that were forgotten may be trained on again; ``batch``: as in ``Requested``."""

    event: Literal["reinstated"] = "reinstated"
    samples: int
    batch: str
    reason: str


class Cancelled(_Entry):
    """A request was taken back; what no other list or request asks for may be trained on again."""

    event: Literal["cancelled"] = "cancelled"
    request: str
    reason: str


class Changed(_Entry):
    """What partition found changed in the source without being asked: samples that are gone, or are others now."""

    event: Literal["changed"] = "changed"
    vanished: int
    relabelled: int
    replaced: int


class Verified(_Entry):
    """What `sisa verify` found of a generation; `.sisa/findings/SHA256.json`, by ``findings_sha256``, has each check.

    ``retrained``: the shards that were trained from scratch for it. ``comparison``: how those were compared with what
    is published; None without any. ``service``: the address that was asked what it serves.
    """

    event: Literal["verified"] = "verified"
    generation: int
    manifest_sha256: str
    retrained: tuple[int, ...] = ()
    comparison: Literal["bits", "predictions"] | None = None
    service: str | None = None
    passed: bool
    findings_sha256: str


class Purged(_Entry):
    """What `sisa purge` removed and could not; ``findings_sha256`` as in ``Verified``, with each place.

    ``removed``: files and objects. ``left``: traces that a scan still found, 0 after a complete purge. ``source``:
    forgotten samples whose picture the source still holds. ``unreachable``: places that could not be looked at.
    """

    event: Literal["purged"] = "purged"
    generation: int
    removed: int
    left: int
    source: int
    unreachable: tuple[str, ...] = ()
    findings_sha256: str


class Certified(_Entry):
    """A certificate was signed. ``statement_sha256``: of the signed statement. ``before``: of the one before it."""

    event: Literal["certified"] = "certified"
    generation: int
    requests: tuple[str, ...]
    statement_sha256: str
    key_id: str
    before: str | None = None


Entry = (
    Imported
    | Published
    | Requested
    | Withdrawn
    | FellBack
    | Confirmed
    | Reinstated
    | Cancelled
    | Changed
    | Verified
    | Purged
    | Certified
)
ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="event")])

Generation = Imported | Published | Withdrawn | FellBack  # entries that made one
