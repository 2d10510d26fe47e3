"""Whether the service at an address answers from the generation that the ledger ends with."""

from __future__ import annotations

import io
import os
from typing import Any, TypeVar

import httpx
import numpy as np
from pydantic import BaseModel, ValidationError

from serving.ensemble.aggregation import mean_probabilities
from serving.ensemble.loading import load_ensemble
from serving.ensemble.manifest import EnsembleUnavailable
from training.data.store import load_shard
from training.erasure.bundle import Bundle
from training.errors import UncheckedError, VerifyError
from training.publish.history import generation_of, last_generation

TIMEOUT = 30.0  # seconds
IMAGES = 16  # of the test split, that it is asked about
TOLERANCE = 1e-4  # of a probability: another processor rounds otherwise


class _Shard(BaseModel):
    shard: int
    sha256: str | None


class _Description(BaseModel):
    """The service's answer, as far as it is looked at."""

    generation: int
    manifest_sha256: str
    shards: list[_Shard]


class _Prediction(BaseModel):
    probabilities: list[float]


class _Answer(BaseModel):
    generation: int
    predictions: list[_Prediction]


Said = TypeVar("Said", bound=BaseModel)


def check_service(bundle: Bundle, url: str) -> str:
    """It says that it serves the last generation and its models, and answers some test pictures as those do here.

    ``url``: as ``service_url`` gives it. SISA_API_TOKEN, from the environment, is what it may ask for.
    """
    last = last_generation(bundle.entries)
    expected = generation_of(last)
    token = os.environ.get("SISA_API_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT) as client:
        served = asked(client, "GET", "/v1/ensemble", _Description)
        if last is None or (served.generation, served.manifest_sha256) != (expected, last.manifest_sha256):
            raise VerifyError(
                f"{url} serves generation {served.generation}, manifest {served.manifest_sha256}; the ledger ends with "
                f"generation {expected}. Publish to it, or restart it on the models that are published"
            )
        models = {shard.shard: shard.sha256 for shard in bundle.manifest.shards}
        if {shard.shard: shard.sha256 for shard in served.shards} != models:
            raise VerifyError(f"{url} answers from other models than generation {expected} has")
        images = np.ascontiguousarray(load_shard(bundle.workspace.test_file).images[:IMAGES])
        answer = asked(client, "POST", "/v1/predict/npy", _Answer, npy(images))
    off = np.abs(np.array([each.probabilities for each in answer.predictions]) - answers_here(bundle, images)).max()
    if answer.generation != expected or off > TOLERANCE:
        raise VerifyError(
            f"{url} answers {len(images)} test pictures, as generation {answer.generation}, with probabilities off by "
            f"{off:.2g} from those of the published models (at most {TOLERANCE:g} expected)"
        )
    return f"{url} serves generation {expected} and its models, and answers {len(images)} test pictures as they do here"


def asked(client: httpx.Client, method: str, path: str, model: type[Said], content: bytes | None = None) -> Said:
    """The body of a 200. Raises UncheckedError when there is none, VerifyError when it is something else."""
    try:
        answer = client.request(method, path, content=content, headers={"content-type": "application/x-npy"})
    except httpx.RequestError as error:
        raise UncheckedError(f"{client.base_url} cannot be reached ({error or type(error).__name__})") from error
    if answer.status_code != httpx.codes.OK:
        advice = "; put its SISA_API_TOKEN into the environment" if answer.status_code in (401, 403) else ""
        raise UncheckedError(f"{client.base_url}{path} answers {answer.status_code} {answer.reason_phrase}{advice}")
    try:
        return model.model_validate_json(answer.content)
    except ValidationError:
        raise VerifyError(f"what answers at {client.base_url}{path} is not a SISA service") from None


def npy(images: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, images)
    return file.getvalue()


def answers_here(bundle: Bundle, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N, C) mean probabilities of the published models."""
    try:
        ensemble = load_ensemble(bundle.workspace.models_folder, threads=os.cpu_count() or 1)
    except EnsembleUnavailable as error:
        raise VerifyError(str(error)) from error
    return mean_probabilities(ensemble.shard_probabilities(images))
