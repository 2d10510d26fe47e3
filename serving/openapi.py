"""The OpenAPI document at /docs.json: every route with every status it can answer."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from serving.api import Confirmation, EnsembleDescription, Predictions, Problem
from serving.body import WithdrawBody, body_schema
from serving.decoding import Shape
from serving.ensemble.loading import Ensemble
from serving.gate import WITHDRAW

REF = "#/components/schemas/{model}"
PROBLEMS = {
    400: "the request cannot be understood; field, expected and found say why",
    401: "a token is set for this route and the bearer token is missing or wrong",
    403: "no models can be withdrawn here: SISA_ADMIN_TOKEN is not set",
    408: "the body did not arrive in time",
    413: "the body, a picture or the number of images is above the limit",
    415: "another content type is expected",
    429: "too many requests at once; see Retry-After",
    500: "internal server error; the log has the request's id",
    503: "the published models cannot be served now, or too few shards answer; see Retry-After",
    504: "the answer was not ready in time",
}
MODE = body_schema()["properties"]["mode"]

PREDICTIONS = {
    "/v1/predict": "Images as JSON, uint8 (N, H, W, 3) of the ensemble's size",
    "/v1/predict/npy": "Images as a .npy file, uint8 (N, H, W, 3) of the ensemble's size",
    "/v1/predict/image": (
        "PNG, JPEG or WEBP files, turned upright, cropped at the centre and resized to the size of the ensemble"
    ),
}


def openapi(ensemble: Ensemble | None, max_images: int) -> dict[str, Any]:
    """OpenAPI 3.1; ``ensemble``: that answers, None when there is none: the size of its images is then left open."""
    models = (Predictions, EnsembleDescription, Confirmation, Problem)
    _, definitions = models_json_schema([(model, "serialization") for model in models], ref_template=REF)
    paths: dict[str, Any] = {}
    for path, content in request_bodies(ensemble.manifest.image_shape if ensemble else None, max_images).items():
        paths[path] = {
            "post": {
                "summary": PREDICTIONS[path],
                "operationId": path.removeprefix("/v1/").replace("/", "_"),
                "tags": ["predict"],
                "security": [{}, {"token": []}],
                "parameters": [{"name": "mode", "in": "query", "schema": MODE}],
                "requestBody": {"required": True, "content": content},
                "responses": {"200": _json("the answers", "Predictions"), **_problems(*PROBLEMS.keys() - {403})},
            }
        }
    paths["/v1/ensemble"] = {
        "get": {
            "summary": "The ensemble that answers: generation, shards, keys, digests",
            "operationId": "ensemble",
            "tags": ["audit"],
            "security": [{}, {"token": []}],
            "responses": {
                "200": _json("the ensemble", "EnsembleDescription"),
                **_problems(400, 401, 429, 500, 503, 504),
            },
        }
    }
    paths[WITHDRAW] = {
        "post": {
            "summary": "Take models out of every answer, for ever, by the SHA-256 of their files",
            "operationId": "withdraw",
            "tags": ["operation"],
            "security": [{"admin": []}],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": WithdrawBody.model_json_schema()}},
            },
            "responses": {
                "200": _json("what was withdrawn", "Confirmation"),
                **_problems(400, 401, 403, 408, 413, 415, 500, 503, 504),
            },
        }
    }
    for path, summary, statuses in (
        ("/livez", "200 while the process lives", {200: "alive"}),
        ("/healthz", "the same as /livez", {200: "alive"}),
        ("/readyz", "200 when the published generation can answer", {200: "ready", 503: "not ready; the log says why"}),
        ("/metrics", "Prometheus's text format", {200: "the metrics"}),
    ):
        responses = {str(status): {"description": text} for status, text in statuses.items()}
        paths[path] = {"get": {"summary": summary, "tags": ["operation"], "responses": responses}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SISA ensemble",
            "version": f"generation {ensemble.generation}" if ensemble else "none",
            "description": "An image classifier that can forget. Every answer names the generation that gave it.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "SISA_API_TOKEN"},
                "admin": {"type": "http", "scheme": "bearer", "description": "SISA_ADMIN_TOKEN"},
            },
        },
    }


def request_bodies(shape: Shape | None, max_images: int) -> dict[str, dict[str, Any]]:
    """By path, the media type and the schema of 1 to ``max_images`` images; ``shape``: (H, W, 3) of each, if known."""
    several = {"minItems": 1, "maxItems": max_images}
    arrays = body_schema()
    level = arrays["properties"]["images"]
    for bounds in (several, *({"minItems": side, "maxItems": side} for side in shape or ())):
        level.update(bounds)
        level = level["items"]
    height, width, _ = shape or ("H", "W", 3)
    npy = {
        "type": "string",
        "format": "binary",
        "description": "what numpy.save writes: format 1.0 or 2.0, dtype uint8 ('|u1'), in C or Fortran order, shape "
        f"(N, {height}, {width}, 3), N from 1 to {max_images}. Its header reads "
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': (1, {height}, {width}, 3), }} for one image, whose "
        "pixels follow row by row, red, green and blue of each",
    }
    files = body_schema({"type": "array", "items": {"type": "string", "format": "binary"}, **several})
    return {
        "/v1/predict": {"application/json": {"schema": arrays}},
        "/v1/predict/npy": {"application/x-npy": {"schema": npy}},
        "/v1/predict/image": {
            "multipart/form-data": {
                "schema": files,
                "encoding": {"images": {"contentType": "image/png, image/jpeg, image/webp"}},
            }
        },
    }


def _json(description: str, model: str) -> dict[str, Any]:
    schema = {"$ref": REF.format(model=model)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): _json(PROBLEMS[status], "Problem") for status in statuses}
