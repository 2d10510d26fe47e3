"""The OpenAPI document at /docs.json: every route with every status it can answer."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from serving.api import Confirmation, EnsembleDescription, Predictions, Problem
from serving.body import WithdrawBody, body_schema
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

BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/v1/predict": ("Images as JSON, uint8 (N, H, W, 3) of the ensemble's size", "application/json", body_schema()),
    "/v1/predict/npy": (
        "Images as a .npy file, uint8 (N, H, W, 3) of the ensemble's size",
        "application/x-npy",
        {"type": "string", "format": "binary"},
    ),
    "/v1/predict/image": (
        "PNG, JPEG or WEBP files, turned upright, cropped at the centre and resized to the size of the ensemble",
        "multipart/form-data",
        body_schema({"type": "array", "items": {"type": "string", "format": "binary"}}),
    ),
}


def openapi(generation: int | None) -> dict[str, Any]:
    """OpenAPI 3.1; ``generation``: of the ensemble that answers, None when there is none."""
    models = (Predictions, EnsembleDescription, Confirmation, Problem)
    _, definitions = models_json_schema([(model, "serialization") for model in models], ref_template=REF)
    paths: dict[str, Any] = {}
    for path, (summary, media_type, schema) in BODIES.items():
        paths[path] = {
            "post": {
                "summary": summary,
                "operationId": path.removeprefix("/v1/").replace("/", "_"),
                "tags": ["predict"],
                "security": [{}, {"token": []}],
                "parameters": [{"name": "mode", "in": "query", "schema": MODE}],
                "requestBody": {"required": True, "content": {media_type: {"schema": schema}}},
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
            "version": "none" if generation is None else f"generation {generation}",
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


def _json(description: str, model: str) -> dict[str, Any]:
    schema = {"$ref": REF.format(model=model)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): _json(PROBLEMS[status], "Problem") for status in statuses}
