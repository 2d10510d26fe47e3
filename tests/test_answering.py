"""What one worker does with a request, without a server."""

import asyncio
import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from server import FLAT, npy, publish
from starlette.requests import Request
from starlette.types import Message

from serving.ensemble.loading import Ensemble
from serving.settings import Settings


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # BentoML's own, when it is imported
def test_an_error_of_the_service_is_answered_like_any_other_and_logged_with_the_requests_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from serving.answering import Answering

    def fail(ensemble: Ensemble, images: object) -> NoReturn:
        raise RuntimeError("a defect")

    async def receive() -> Message:
        return {"type": "http.request", "body": npy(np.zeros((1, 4, 4, 3), np.uint8))}

    publish(tmp_path, 1, [FLAT])
    monkeypatch.setattr(Ensemble, "shard_probabilities", fail)
    answering = Answering(
        Settings(models=tmp_path, state=tmp_path / "state", provider="cpu", threads=1), has_floor=True
    )
    headers = [(b"content-type", b"application/x-npy")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    request = Request({**scope, "sisa.request_id": "audit-42"}, receive)
    answer = asyncio.run(answering.predict_npy(request))
    assert answer.status_code == 500
    assert json.loads(bytes(answer.body)).keys() == {"error", "field", "expected", "found"}
    assert "audit-42" in caplog.text
    assert "a defect" in caplog.text
