"""What is taken and what is answered, as data: for BentoML's client, for OpenAPI and for those who read."""

from __future__ import annotations

import json
import platform
from collections.abc import Set
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import onnxruntime
from bentoml import IODescriptor
from pydantic import BaseModel, Field
from starlette.requests import Request

from serving.batching import Scores
from serving.body import body_schema
from serving.ensemble.aggregation import Aggregation, choose
from serving.ensemble.loading import Ensemble
from serving.ensemble.manifest import BackboneEntry, Forgotten, LedgerHead, Manifest, OpenRequests
from serving.ensemble.robustness import robustness
from serving.ensemble.turnout import Turnout, shards_needed, turnout
from serving.generations import Withdrawal
from serving.settings import Settings

VERSIONS = {
    "python": platform.python_version(),
    "onnxruntime": onnxruntime.__version__,
    **{name: version(name) for name in ("bentoml", "numpy", "pillow", "simplejpeg")},
}


class Prediction(BaseModel):
    """One picture's answer."""

    label: int = Field(description="index of the class, from 0")
    class_: str = Field(alias="class", description="name of the class")
    confidence: float = Field(description="mean: mean probability of the class; vote: its share of the votes")
    probabilities: list[float] = Field(description="mean probability of each class over the shards")
    votes: list[int] = Field(description="number of shards that find each class the most probable")
    robustness: int = Field(
        description="that many shards' models may be replaced by anything, and every pending shard may come back with "
        "anything, and the vote's answer stays (DPA, Levine & Feizi 2021), so no change to that many training samples "
        "(or subjects, where placement is by subject) flips it; says nothing of the mean's answer"
    )


class Predictions(IODescriptor):  # type: ignore[misc]
    """The answers, all by one generation of the ensemble."""

    generation: int = Field(description="generation of the ensemble that answered")
    mode: Aggregation
    turnout: Turnout
    predictions: list[Prediction]


class Shard(BaseModel):
    """One shard of the ensemble; one that abstains has no samples, or its model was withdrawn."""

    shard: int
    retained: int = Field(description="training samples it holds now")
    key: str = Field(description="hex SHA-256 over its recipe and every sample it was trained on")
    abstains: bool
    sha256: str | None = Field(description="of its ONNX file")
    pending: bool = Field(description="its model was withdrawn, and no other has been published yet")
    earlier_slice: int | None = Field(description="the slice after which its model was taken, where it is not the last")


class Limits(BaseModel):
    """What a request may hold."""

    max_images: int
    max_pixels: int
    max_body_bytes: int


class EnsembleDescription(BaseModel):
    """What answers now: enough to tie an answer, by its generation, to a training state."""

    generation: int
    manifest_sha256: str
    aggregation: Aggregation
    classes: list[str]
    image_shape: tuple[int, int, int]
    retained: int = Field(description="training samples of all shards together")
    forgotten: Forgotten
    turnout: Turnout
    needed: int = Field(description="shards that must answer; with fewer, predictions are 503")
    shards: list[Shard]
    backbone: BackboneEntry | None = Field(
        description="the frozen network whose features the shards' models take; null where each takes images itself"
    )
    ledger: LedgerHead | None = Field(description="the ledger as it was before this generation was entered")
    open_requests: OpenRequests | None = Field(
        description="requests to forget that were not done when this generation was published: how many, and when the "
        "oldest of them was made; null when there was none"
    )
    floor: int | Literal["none"] = Field(
        description="no lower generation answers; none: this service started without state and without "
        "SISA_SERVE_MIN_GENERATION, so nothing but what is published says which one is the newest"
    )
    provider: str | None = Field(description="onnxruntime's execution provider; null when no shard answers")
    limits: Limits
    versions: dict[str, str]


class Confirmation(BaseModel):
    """What was withdrawn: it holds for all workers and all replicas that share the state, and for ever."""

    withdrawn: list[str] = Field(description="the request's digests; none of them will ever answer again")
    total: int = Field(description="digests that were ever withdrawn here")
    listed: list[str] | None = Field(
        description="those of the request's digests that the published manifest lists; null when it cannot be read"
    )
    generation: int | None = Field(description="of the published manifest")
    turnout: Turnout | None = Field(description="of that manifest without all that was withdrawn")
    needed: int | None = Field(description="shards that must answer; with fewer, predictions are 503")


class Problem(BaseModel):
    """Why a request was refused."""

    error: str
    field: str | None
    expected: str | None
    found: str | None


def encode(ensemble: Ensemble, scores: Scores, mode: Aggregation) -> bytes:
    """The JSON of Predictions."""
    manifest = ensemble.manifest
    labels = choose(scores.mean, scores.votes, mode)
    probabilities = scores.mean.astype(float).round(7).tolist()  # float32 has no more digits
    shares = probabilities if mode == "mean" else (scores.votes / len(manifest.shard_ids)).tolist()
    rows = zip(
        labels.tolist(),
        shares,
        probabilities,
        scores.votes.tolist(),
        robustness(scores.votes, pending=len(ensemble.turnout.pending)).tolist(),
        strict=True,
    )
    predictions = [
        {
            "label": label,
            "class": manifest.classes[label],
            "confidence": share[label],
            "probabilities": row,
            "votes": votes,
            "robustness": replaceable,
        }
        for label, share, row, votes, replaceable in rows
    ]
    document = {
        "generation": ensemble.generation,
        "mode": mode,
        "turnout": ensemble.turnout.model_dump(),
        "predictions": predictions,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def describe(ensemble: Ensemble, settings: Settings, floor: int | None) -> dict[str, Any]:
    """EnsembleDescription, as it is sent; ``floor``: None where nothing vouches for one."""
    manifest = ensemble.manifest
    description = EnsembleDescription(
        generation=ensemble.generation,
        manifest_sha256=ensemble.digest,
        aggregation=manifest.aggregation,
        classes=list(manifest.classes),
        image_shape=manifest.image_shape,
        retained=sum(shard.retained for shard in manifest.shards),
        forgotten=manifest.forgotten,
        turnout=ensemble.turnout,
        needed=shards_needed(ensemble.turnout.of, settings.quorum),
        shards=[Shard.model_validate(shard.model_dump()) for shard in manifest.shards],
        backbone=manifest.backbone,
        ledger=manifest.ledger if isinstance(manifest, Manifest) else None,
        open_requests=manifest.open_requests if isinstance(manifest, Manifest) else None,
        floor=floor or "none",
        provider=ensemble.provider,
        limits=Limits.model_validate(settings.model_dump(include=set(Limits.model_fields))),
        versions=VERSIONS,
    )
    return description.model_dump(mode="json")


def confirm(digests: Set[str], withdrawal: Withdrawal, settings: Settings) -> dict[str, Any]:
    """Confirmation, as it is sent; ``digests``: the request's."""
    manifest = withdrawal.manifest
    listed = {shard.sha256 for shard in manifest.voters} if manifest else set()
    left = turnout(manifest.without(withdrawal.withdrawn)) if manifest else None
    confirmation = Confirmation(
        withdrawn=sorted(digests),
        total=len(withdrawal.withdrawn),
        listed=sorted(digests & listed) if manifest else None,
        generation=manifest.generation if manifest else None,
        turnout=left,
        needed=shards_needed(left.of, settings.quorum) if left else None,
    )
    return confirmation.model_dump(mode="json")


class RawRequest(IODescriptor):  # type: ignore[misc]
    """Input that reaches the service as the request it came in.

    BentoML would read the body first: without limits, fetching URLs found in file fields, and with
    answers of its own to what it cannot read. ``client_schema`` is what its client needs to know.
    """

    client_schema: ClassVar[dict[str, Any]]
    __root_input__ = True  # BentoML then passes on what from_http_request returns

    @classmethod
    async def from_http_request(cls, request: Request, serde: object) -> Request:
        return request

    @classmethod
    def model_json_schema(cls, *args: object, **kwargs: object) -> dict[str, Any]:
        # A copy: BentoML edits what it gets.
        copy: dict[str, Any] = json.loads(json.dumps(cls.client_schema))
        return copy

    @classmethod
    def openapi_components(cls, name: str) -> dict[str, Any]:
        return {}  # serving/openapi.py has them


class JsonImages(RawRequest):
    client_schema: ClassVar = body_schema({"type": "tensor", "format": "numpy-array", "dtype": "uint8"})


class NpyImages(RawRequest):
    client_schema: ClassVar = {
        "type": "file",
        "format": "binary",
        "content_type": "application/x-npy",
        "root_input": True,
    }


class ImageFiles(RawRequest):
    client_schema: ClassVar = body_schema({"type": "array", "items": {"type": "file", "format": "image"}})
