"""New generations under fire: two workers, real HTTP, never a stale answer and never a mix."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock
from server import FLAT, RED, Bias, Server, npy, picture, publish, write_manifest

NPY = {"content-type": "application/x-npy"}
BODY = npy(picture(RED)[None])
SWAPS = 8


def colour(generation: int) -> str:
    """Even generations say green to red in every shard, odd ones red: a mix of two would give itself away."""
    return "red" if generation % 2 else "green"


def biases(generation: int) -> list[Bias]:
    return [(0, 20 * (generation % 2 == 0), generation / 1000)] * 3


class Published(Server):
    """A server whose generations are counted."""

    generation = 0

    def publish(self, work: int = 0) -> int:
        """Publish the next generation; its number."""
        self.generation += 1
        publish(self.models, self.generation, biases(self.generation), work=work)
        return self.generation

    def metrics(self) -> str:
        return httpx.get(self.url + "/metrics").text

    def batches(self) -> int:
        """How many batches were begun, by all workers together."""
        (count,) = re.findall(r"^sisa_batch_images_count (\S+)$", self.metrics(), re.MULTILINE)
        return int(float(count))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    server = Published(tmp_path_factory.mktemp("swap"), workers=2, timeout_seconds=60)
    server.publish()
    with server:
        server.wait(lambda: server.status("/readyz") == 200)
        yield server


def ask(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/v1/predict/npy", content=BODY, headers=NPY)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def workers(server: Server) -> list[int]:
    listed = subprocess.run(
        ["ps", "--ppid", str(server.process.pid), "-o", "pid="], check=True, capture_output=True, text=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def test_generations_change_under_load_without_a_failure_a_stale_answer_or_a_mix(server: Published) -> None:
    published, done = [server.generation], threading.Event()
    answered = [0] * 8

    def hammer(number: int) -> None:
        with server.client() as client:
            while not done.is_set():
                newest = published[-1]
                answer = ask(client)
                assert answer["generation"] >= newest
                prediction = answer["predictions"][0]
                assert prediction["class"] == colour(answer["generation"])
                assert sorted(prediction["votes"]) == [0, 0, 3]
                answered[number] += 1

    with ThreadPoolExecutor(8) as crowd:
        hammers = [crowd.submit(hammer, number) for number in range(8)]
        try:
            for swap in range(1, SWAPS + 1):
                wanted = 20 * swap
                server.wait(lambda wanted=wanted: sum(answered) >= wanted or any(each.done() for each in hammers))
                published.append(server.publish())
            server.wait(lambda: sum(answered) >= 20 * SWAPS + 20 or any(each.done() for each in hammers))
        finally:
            done.set()
        for hammered in hammers:
            hammered.result()
    assert len(workers(server)) == 2
    # Both workers, idle now, have taken the last one up by themselves: the gauge is the least of them.
    server.wait(lambda: f"sisa_generation {server.generation}.0" in server.metrics())
    assert json.loads((server.models / "state/floor.json").read_text())["generation"] == server.generation


def test_a_request_at_work_when_a_generation_is_published_is_answered_by_the_new_one(server: Published) -> None:
    slow = server.publish(work=40)
    with server.client() as client, ThreadPoolExecutor(1) as other:
        assert ask(client)["generation"] == slow
        before = server.batches()
        at_work = other.submit(ask, client)
        server.wait(lambda: server.batches() > before)
        assert not at_work.done()
        server.publish()
        answer = at_work.result()
    assert answer["generation"] == slow + 1
    assert answer["predictions"][0]["class"] == colour(slow + 1)


@pytest.mark.heavy
def test_no_sound_or_newer_manifest_means_503_and_not_ready_and_a_reason_in_the_log(server: Published) -> None:
    older = (server.models / "ensemble.json").read_text()
    newest = server.publish()
    server.wait(lambda: server.status("/readyz") == 200)
    for text, reason in (
        (older, f"but {newest} has been seen"),
        (older[:50], "is not a manifest"),
        (None, "is missing"),
    ):
        if text is None:
            (server.models / "ensemble.json").unlink()
        else:
            write_manifest(server.models, text)
        for _ in range(4):  # whichever worker answers
            answer = httpx.post(server.url + "/v1/predict/npy", content=BODY, headers=NPY)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert str(server.folder) not in answer.text
            assert server.status("/v1/ensemble") == server.status("/readyz") == 503
            assert server.status("/livez") == server.status("/healthz") == 200
        assert reason in server.log.read_text()
        server.wait(lambda: "sisa_ready 0.0" in server.metrics())
    server.publish()
    with server.client() as client:
        assert ask(client)["generation"] == newest + 1


@pytest.mark.heavy
def test_probes_and_metrics_answer_while_somebody_keeps_the_lock_of_the_state(server: Published) -> None:
    server.publish()
    server.wait(lambda: server.status("/readyz") == 200)
    with FileLock(server.models / "state/floor.lock"):
        generation = server.publish()
        begun = time.monotonic()
        assert [server.status(path) for path in ("/livez", "/readyz", "/metrics")] == [200, 503, 200]
        assert time.monotonic() - begun < 8  # the lock itself is waited for 10 seconds
    server.wait(lambda: re.search(rf"^sisa_generation {generation}\.0$", server.metrics(), re.MULTILINE))


@pytest.mark.heavy
def test_a_killed_worker_leaves_no_gauge_in_the_metrics(server: Published) -> None:
    (server.models / "ensemble.json").unlink()
    server.wait(lambda: "sisa_ready 0.0" in server.metrics())
    os.kill(workers(server)[0], signal.SIGKILL)
    server.publish()
    server.wait(lambda: "sisa_ready 1.0" in server.metrics())


@pytest.mark.heavy
def test_a_stop_lets_requests_finish_and_the_floor_survives_the_restart(server: Published) -> None:
    older = (server.models / "ensemble.json").read_text()
    slow = server.publish(work=60)
    server.wait(lambda: server.status("/readyz") == 200)
    with server.client() as client, ThreadPoolExecutor(1) as other:
        before = server.batches()
        at_work = other.submit(ask, client)
        server.wait(lambda: server.batches() > before)
        assert not at_work.done()
        server.process.send_signal(signal.SIGTERM)
        assert at_work.result()["generation"] == slow
    assert server.process.wait(30) == 0
    write_manifest(server.models, older)
    with server:
        assert server.status("/readyz") == 503
        assert server.status("/livez") == 200


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"SISA_SERVE_PROVIDER": "cuda"}, "provider cuda was asked for, but this onnxruntime has only"),
        ({"SISA_SERVE_WORKER": "2"}, "SISA_SERVE_WORKER: no such setting"),
    ],
)
def test_a_service_that_cannot_run_as_configured_does_not_start(
    tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    publish(tmp_path / "models", 1, [FLAT])
    server = Server(tmp_path, environment)
    server.start()
    assert server.process.wait(60) != 0
    assert reason in server.log.read_text()
