"""What is taken and what is answered, as data: for BentoML's client, for OpenAPI and for those who read."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import Any, ClassVar

import onnxruntime
from bentoml import IODescriptor
from pydantic import BaseModel, Field
from starlette.requests import Request

from serving.batching import Scores
from serving.body import body_schema
from serving.ensemble.aggregation import Aggregation, choose
from serving.ensemble.loading import Ensemble
from serving.ensemble.manifest import Forgotten
from serving.ensemble.robustness import robustness
from serving.settings import Settings


class Prediction(BaseModel):
    """One picture's answer."""

    label: int = Field(description="index of the class, from 0")
    class_: str = Field(alias="class", description="name of the class")
    confidence: float = Field(description="mean: mean probability of the class; vote: its share of the votes")
    probabilities: list[float] = Field(description="mean probability of each class over the shards")
    votes: list[int] = Field(description="number of shards that find each class the most probable")
    robustness: int = Field(
        description="that many shards' models may be replaced by anything and the vote's answer stays (DPA, Levine & "
        "Feizi 2021); says nothing of the mean's answer"
    )


class Predictions(IODescriptor):  # type: ignore[misc]
    """The answers, all by one generation of the ensemble."""

    generation: int = Field(description="generation of the ensemble that answered")
    mode: Aggregation
    predictions: list[Prediction]


class Shard(BaseModel):
    """One shard of the ensemble; one that abstains has no model."""

    shard: int
    retained: int = Field(description="training samples it holds now")
    key: str = Field(description="hex SHA-256 over its recipe and every sample it was trained on")
    abstains: bool
    sha256: str | None = Field(description="of its ONNX file")


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
    shards: list[Shard]
    provider: str = Field(description="onnxruntime's execution provider")
    limits: Limits
    versions: dict[str, str]


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
        robustness(scores.votes).tolist(),
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
    document = {"generation": ensemble.generation, "mode": mode, "predictions": predictions}
    return json.dumps(document, separators=(",", ":")).encode()


def describe(ensemble: Ensemble, settings: Settings) -> dict[str, Any]:
    """EnsembleDescription, as it is sent."""
    manifest = ensemble.manifest
    description = EnsembleDescription(
        generation=ensemble.generation,
        manifest_sha256=ensemble.digest,
        aggregation=manifest.aggregation,
        classes=list(manifest.classes),
        image_shape=manifest.image_shape,
        retained=sum(shard.retained for shard in manifest.shards),
        forgotten=manifest.forgotten,
        shards=[Shard.model_validate(shard.model_dump()) for shard in manifest.shards],
        provider=ensemble.sessions[0].get_providers()[0],
        limits=Limits.model_validate(settings.model_dump(include=set(Limits.model_fields))),
        versions={
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            **{name: version(name) for name in ("bentoml", "numpy", "pillow", "simplejpeg")},
        },
    )
    return description.model_dump()


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
