"""What a scrape tells of requests to forget that are not done, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from server import FLAT, Server, publish, write_manifest

ASKED = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("deadlines"), workers=2)
    publish(server.models, 1, [FLAT, FLAT])
    with server:
        yield server


def gauges(server: Server) -> dict[str, float]:
    lines = httpx.get(server.url + "/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("sisa_") and "{" not in line}


def test_the_number_of_open_requests_and_the_age_of_the_oldest_are_scraped(server: Server) -> None:
    server.wait(lambda: gauges(server)["sisa_ready"] == 1)
    assert gauges(server)["sisa_open_requests"] == gauges(server)["sisa_oldest_open_request_seconds"] == 0
    manifest = json.loads((server.models / "ensemble.json").read_text())
    asked = {"number": 3, "oldest": ASKED.isoformat()}
    write_manifest(server.models, json.dumps({**manifest, "generation": 2, "open_requests": asked}))
    server.wait(lambda: gauges(server)["sisa_generation"] == 2)
    before = datetime.now(UTC)
    told = gauges(server)
    assert told["sisa_open_requests"] == 3
    # To the moment of the scrape: never the age at which the generation was loaded.
    age = told["sisa_oldest_open_request_seconds"]
    assert (before - ASKED).total_seconds() <= age <= (datetime.now(UTC) - ASKED).total_seconds()
    assert gauges(server)["sisa_oldest_open_request_seconds"] > age
    description = httpx.get(server.url + "/v1/ensemble").json()
    assert description["open_requests"] == {"number": 3, "oldest": "2026-11-01T00:00:00Z"}
    write_manifest(server.models, json.dumps({**manifest, "generation": 3}))
    server.wait(lambda: gauges(server)["sisa_generation"] == 3)
    assert gauges(server)["sisa_open_requests"] == gauges(server)["sisa_oldest_open_request_seconds"] == 0
