"""The Grafana dashboard: each panel's query gives something, asked of a real Prometheus that watches a real service."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from server import FLAT, LOVES_GREEN, RED, REPOSITORY, Server, encoded, free_port, npy, picture, publish

pytestmark = pytest.mark.heavy

DASHBOARD = json.loads((REPOSITORY / "deploy/grafana/sisa.json").read_text())
TARGETS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; it has watched a service of two workers that answered, refused and withdrew for some seconds."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on the PATH")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    publish(folder / "models", 1, [FLAT, LOVES_GREEN, (1, 0, 0)])
    with Server(folder, {"SISA_ADMIN_TOKEN": "adm1n"}, workers=2) as server:
        server.wait(lambda: server.status("/readyz") == 200)
        scrape = {"job_name": "sisa", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
        config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log)
        try:
            load(server, seconds=6)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def load(server: Server, seconds: float) -> None:
    end = time.monotonic() + seconds
    large = encoded(picture(RED, 2000), "WEBP", lossless=True)
    with server.client() as client:
        while time.monotonic() < end:
            for _ in range(5):
                client.post(
                    "/v1/predict/npy", content=npy(picture(RED)[None]), headers={"content-type": "application/x-npy"}
                )
            client.post("/v1/predict/image", files=[("images", ("p", large))])
            client.post("/v1/predict", content=b"{}", headers={"content-type": "application/json"})
        digest = json.loads((server.models / "ensemble.json").read_text())["shards"][0]["sha256"]
        client.post("/v1/withdraw", json={"sha256": [digest]}, headers={"authorization": "Bearer adm1n"})
    time.sleep(2)  # for Prometheus to see all of it


@pytest.mark.parametrize(("title", "expression"), TARGETS)
def test_the_query_of_a_panel_gives_something(prometheus: str, title: str, expression: str) -> None:
    query = expression.replace("$job", ".*").replace("$__rate_interval", "5m")
    answer: dict[str, Any] = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    values = [float(series["value"][1]) for series in answer["data"]["result"]]
    assert values, f"{title}: nothing"
    assert not any(map(math.isnan, values)), f"{title}: not a number"


def test_every_metric_of_the_service_is_on_it() -> None:
    queries = " ".join(expression for _, expression in TARGETS)
    shown = {re.sub("_(total|bucket|sum|count)$", "", name) for name in re.findall(r"sisa_\w+", queries)}
    assert set(re.findall(r'"(sisa_\w+)"', (REPOSITORY / "serving/metrics.py").read_text())) == shown
