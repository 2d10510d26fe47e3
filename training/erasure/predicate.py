"""The words of a certificate: an in-toto Statement v1 with a predicate of our own, and what it does not say.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

SCOPE = (
    "The published models are, bit for bit, those that training on the retained samples alone comes to, by this code, "
    "these parameters and this environment; the verification says which shards were trained again to see that.",
    "It is a statement about a procedure that can be audited. Weights alone cannot show what they were not trained on "
    "(Thudi et al., USENIX Security 2022).",
    "It says nothing of weights that training started from, nor of test pictures, nor of what older models answered "
    "while they were in use.",
)


class Subject(BaseModel):
    """A file that is certified."""

    name: str
    digest: dict[Literal["sha256"], str]


class Asked(BaseModel):
    """A request. ``pictures``: how many were to be forgotten, those of a subject counted one by one.

    ``samples``: HMAC-SHA256 of each id, or of ``subject:NAME``, under the salt that the requester was given, in hex,
    sorted.

    Times are UTC. ``withdrawn``: when no model that saw a sample answered any more; None where none ever had.
    """

    request: str
    reference: str | None
    asked: str
    withdrawn: str | None
    published: str
    pictures: int | None = None  # as in certificates of before there was this
    samples: list[str]


class Retrained(BaseModel):
    """A shard that was trained again. ``before``: its key chain when it was asked; ``after``: as it is published."""

    shard: int
    retained: int
    slices: int
    before: list[str]
    after: list[str]


class Compared(BaseModel):
    """A number before and after; text is the reason why there is none."""

    what: str
    before: float | str
    after: float | str


class Erasure(BaseModel):
    """The predicate. ``summary``: what somebody who reads one line must know, ``warnings`` first.

    ``entries`` and ``head``: of the ledger at the time, its length and the SHA-256 of its last line. ``previous``:
    SHA-256 of the statement before.
    """

    summary: str
    warnings: list[str]
    issued: str
    valid_until: str
    generation: int
    requests: list[Asked]
    retrained: list[Retrained]
    verified: dict[str, Any] | str
    purged: dict[str, Any] | str
    evidence: list[Compared]
    entries: int
    head: str
    code: str | None
    environment: dict[str, str]
    scope: list[str] = Field(default=list(SCOPE))
    out_of_reach: list[str]
    previous: str | None


class Statement(BaseModel):
    """As it is signed, in canonical JSON (RFC 8785)."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type", default="https://in-toto.io/Statement/v1")
    subject: list[Subject]
    predicate_type: Literal["urn:sisa:erasure:v1"] = Field(alias="predicateType", default="urn:sisa:erasure:v1")
    predicate: Erasure
