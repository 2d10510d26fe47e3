"""The least that could answer: Starlette with the service's decoders and batcher, and nothing else.

No token, no limits, no clock, no metrics, no log, no look at whether the generation is still the
published one. What `benchmarks/serving.py` holds the service against.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.api import encode
from serving.batching import Batcher
from serving.decoding import Images, decode_files, decode_json, decode_npy
from serving.ensemble.loading import load_ensemble

ensemble = load_ensemble(Path(os.environ["SISA_SERVE_MODELS"]), threads=os.cpu_count() or 1)
shape = ensemble.manifest.image_shape
batcher = Batcher(64, lambda size: None)


async def answer(images: Images) -> Response:
    scores = await batcher.scores(ensemble, images)
    return Response(encode(ensemble, scores, "mean"), media_type="application/json")


async def predict(request: Request) -> Response:
    return await answer(decode_json(await request.body(), shape, 256)[0])


async def predict_npy(request: Request) -> Response:
    return await answer(decode_npy(await request.body(), shape, 256))


async def predict_image(request: Request) -> Response:
    async with request.form(max_files=256) as form:
        files = [file.file for file in form.getlist("images") if not isinstance(file, str)]
        return await answer(decode_files(files, shape, 40_000_000))


app = Starlette(
    routes=[
        Route("/v1/predict", predict, methods=["POST"]),
        Route("/v1/predict/npy", predict_npy, methods=["POST"]),
        Route("/v1/predict/image", predict_image, methods=["POST"]),
    ]
)
