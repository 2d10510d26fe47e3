"""``POST /v1/withdraw`` over real HTTP: who may, what is refused, and that nothing withdrawn is in a later answer."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest
from server import RED, REPOSITORY, Bias, Server, npy, picture, publish, write_manifest

WITHDRAW, ENSEMBLE, RAW = "/v1/withdraw", "/v1/ensemble", "/v1/predict/npy"
TOKENS = {"SISA_ADMIN_TOKEN": "adm1n", "SISA_API_TOKEN": "s3cret"}
ADMIN, API = {"authorization": "Bearer adm1n"}, {"authorization": "Bearer s3cret"}
NPY = {"content-type": "application/x-npy"}
BODY = npy(picture(RED)[None])


def biases(generation: int, shards: int = 5) -> list[Bias]:
    """All of them say red, and all are different."""
    return [(generation, shard / 10, 0) for shard in range(shards)]


class Withdrawing(Server):
    """A server that is told to withdraw."""

    generation = 0

    def publish(self, models: Sequence[Bias | None] | None = None, work: int = 0) -> int:
        self.generation += 1
        publish(self.models, self.generation, models or biases(self.generation), work=work)
        return self.generation

    def digests(self) -> list[str]:
        return [shard["sha256"] for shard in json.loads((self.models / "ensemble.json").read_text())["shards"]]

    def ready(self) -> Self:
        self.wait(lambda: self.status("/readyz") == 200)
        return self

    def withdraw(self, *digests: str) -> dict[str, Any]:
        answer = httpx.post(self.url + WITHDRAW, json={"sha256": digests}, headers=ADMIN, timeout=60)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def ask(self) -> httpx.Response:
        return httpx.post(self.url + RAW, content=BODY, headers=NPY | API, timeout=60)

    def describe(self) -> dict[str, Any]:
        document: dict[str, Any] = httpx.get(self.url + ENSEMBLE, headers=API).json()
        return document

    def batches(self) -> float:
        lines = httpx.get(self.url + "/metrics").text.splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("sisa_batch_images_count"))

    def gauge(self, name: str) -> float:
        (line,) = [line for line in httpx.get(self.url + "/metrics").text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Withdrawing]:
    server = Withdrawing(tmp_path_factory.mktemp("withdraw"), TOKENS, workers=2, timeout_seconds=60, max_concurrency=2)
    server.publish()
    with server:
        yield server.ready()


@pytest.fixture
def server(running: Withdrawing) -> Withdrawing:
    """Of five shards, none pending."""
    running.publish()
    return running.ready()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "adm1n"}, 401),
        ({"authorization": "Basic adm1n"}, 401),
        ({"authorization": "Bearer adm1nx"}, 401),
        (API, 401),
        (ADMIN, 200),
        ({"authorization": "bearer adm1n"}, 200),
    ],
)
def test_only_the_admin_token_withdraws(server: Withdrawing, headers: dict[str, str], status: int) -> None:
    answer = httpx.post(server.url + WITHDRAW, json={"sha256": ["f" * 64]}, headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["field"] == "Authorization"


def test_the_admin_token_opens_nothing_else(server: Withdrawing) -> None:
    for path in (ENSEMBLE, RAW):
        assert httpx.get(server.url + path, headers=ADMIN).status_code == 401


HEX = "a" * 64


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"json": {"sha256": []}}, 400, "sha256"),
        ({"json": {"sha256": HEX}}, 400, "sha256"),
        ({"json": {"sha256": ["a" * 63]}}, 400, "sha256[0]"),
        ({"json": {"sha256": [HEX, "a" * 65]}}, 400, "sha256[1]"),
        ({"json": {"sha256": [HEX, "g" * 64]}}, 400, "sha256[1]"),
        ({"json": {"sha256": [HEX + "\n"]}}, 400, "sha256[0]"),
        ({"json": {"sha256": [1]}}, 400, "sha256[0]"),
        ({"json": {"sha256": [HEX] * 1001}}, 413, "sha256"),
        ({"json": {"sha256": [HEX], "reinstate": [HEX]}}, 400, "reinstate"),
        ({"json": {}}, 400, "sha256"),
        ({"json": [HEX]}, 400, None),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, None),
        ({"content": b"", "headers": {"content-type": "application/json"}}, 400, None),
        ({"content": json.dumps({"sha256": [HEX]}).encode()}, 415, "Content-Type"),
    ],
)
def test_a_body_that_is_not_a_list_of_digests_withdraws_nothing(
    server: Withdrawing, body: dict[str, Any], status: int, field: str | None
) -> None:
    file = server.models / "state/withdrawn.json"
    before = file.read_bytes() if file.exists() else None
    answer = httpx.post(server.url + WITHDRAW, **{**body, "headers": {**body.get("headers", {}), **ADMIN}})
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "field", "expected", "found"}
    assert answer.json()["field"] == field
    assert (file.read_bytes() if file.exists() else None) == before
    documented = httpx.get(server.url + "/docs.json").json()["paths"][WITHDRAW]["post"]["responses"]
    assert str(status) in documented


def test_a_query_or_another_method_is_refused(server: Withdrawing) -> None:
    assert httpx.post(server.url + WITHDRAW + "?force=1", json={"sha256": [HEX]}, headers=ADMIN).status_code == 400
    for method in ("GET", "DELETE", "PUT"):
        answer = httpx.request(method, server.url + WITHDRAW, headers=ADMIN)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_the_confirmation_tells_what_is_withdrawn_and_what_of_it_was_served(server: Withdrawing) -> None:
    first, second = server.digests()[:2]
    told = server.withdraw(first.upper(), first, HEX)
    assert told["withdrawn"] == sorted([first, HEX])
    assert told["listed"] == [first]
    assert told["generation"] == server.generation
    assert told["turnout"] == {"answered": 4, "of": 5, "pending": [0], "earlier_slice": []}
    assert told["needed"] == 3
    again = server.withdraw(first, HEX)
    assert again == told
    assert server.withdraw(second)["total"] == told["total"] + 1
    log = server.log.read_text()
    assert f"withdrawn for ever: {first}" in log or f"withdrawn for ever: {HEX}, {first}" in log
    jsonschema = pytest.importorskip("jsonschema")
    documented = httpx.get(server.url + "/docs.json").json()
    for answer, model in ((told, "Confirmation"), (server.describe(), "EnsembleDescription")):
        schema = {"$ref": f"#/components/schemas/{model}", "components": documented["components"]}
        jsonschema.validate(answer, schema)


def test_answers_description_and_metrics_say_who_took_part(server: Withdrawing) -> None:
    withdrawals = server.gauge("sisa_withdrawals_total")
    server.withdraw(server.digests()[3])
    for _ in range(4):  # whichever worker answers
        answer = server.ask().json()
        assert answer["turnout"] == {"answered": 4, "of": 5, "pending": [3], "earlier_slice": []}
        assert answer["predictions"][0]["votes"] == [4, 0, 0]
        assert answer["predictions"][0]["robustness"] == 1  # (4 - 0 - 1 - 1) // 2
        description = server.describe()
        assert description["turnout"] == answer["turnout"]
        shard = description["shards"][3]
        assert (shard["pending"], shard["abstains"], shard["sha256"]) == (True, True, None)
    server.wait(lambda: server.gauge("sisa_shards_answering") == 4)
    server.wait(lambda: server.gauge("sisa_shards_pending") == 1)
    assert server.gauge("sisa_quorum_lost") == 0
    assert server.gauge("sisa_withdrawals_total") == withdrawals + 1
    total = len(json.loads((server.models / "state/withdrawn.json").read_text())["withdrawn"])
    server.wait(lambda: server.gauge("sisa_withdrawn_models") == total)
    server.publish()
    assert server.ask().json()["turnout"]["answered"] == 5


def test_at_the_quorum_it_answers_and_below_it_says_how_many_must(server: Withdrawing) -> None:
    first, second, third = server.digests()[:3]
    server.withdraw(first, second)
    assert [server.ask().status_code for _ in range(4)] == [200] * 4
    assert server.status("/readyz") == 200
    server.withdraw(third)
    for _ in range(4):
        answer = server.ask()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "60"
        assert answer.json() == {
            "error": "too few shards answer",
            "field": None,
            "expected": "at least 3 of the 5 shards with samples (serve.quorum 0.5)",
            "found": "2 answer; pending: 0, 1, 2",
        }
        assert server.status("/readyz") == 503
        assert server.status("/livez") == 200
        assert server.describe()["turnout"]["answered"] == 2
    assert "not ready: too few shards answer" in server.log.read_text()
    server.wait(lambda: server.gauge("sisa_quorum_lost") == 1)
    assert (server.gauge("sisa_ready"), server.gauge("sisa_generation")) == (0, 0)
    server.publish()
    assert server.ask().status_code == 200
    server.wait(lambda: server.gauge("sisa_quorum_lost") == 0)


def test_a_request_at_work_with_a_model_that_is_withdrawn_is_computed_again_without_it(server: Withdrawing) -> None:
    green: Bias = (0, 30, 0)  # the only one that says so
    server.publish([green, *biases(server.generation + 1)[1:]], work=40)
    server.ready()
    assert server.ask().json()["predictions"][0]["votes"] == [4, 1, 0]
    with ThreadPoolExecutor(1) as other:
        before = server.batches()
        at_work = other.submit(server.ask)
        server.wait(lambda: server.batches() > before)
        assert not at_work.done()
        server.withdraw(server.digests()[0])
        answer = at_work.result().json()
    assert answer["predictions"][0]["votes"] == [4, 0, 0]
    assert answer["turnout"]["pending"] == [0]


@pytest.mark.heavy
def test_a_busy_service_still_withdraws(server: Withdrawing) -> None:
    """Its two places are taken by eight clients that never pause."""
    server.publish(work=100)
    stop, statuses = threading.Event(), set[int]()

    def ask_on() -> None:
        while not stop.is_set():
            statuses.add(server.ask().status_code)

    with ThreadPoolExecutor(8) as crowd:
        for _ in range(8):
            crowd.submit(ask_on)
        try:
            server.wait(lambda: statuses == {200, 429})
            for _ in range(4):  # whichever worker answers
                assert server.withdraw(server.digests()[0])["turnout"]["pending"] == [0]
        finally:
            stop.set()
    assert statuses == {200, 429}


def test_a_damaged_list_is_503_for_everybody_until_it_is_restored(server: Withdrawing) -> None:
    first, second = server.digests()[:2]
    server.withdraw(first)
    file = server.models / "state/withdrawn.json"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    for _ in range(4):
        assert server.ask().status_code == server.status("/readyz") == 503
        refused = httpx.post(server.url + WITHDRAW, json={"sha256": [second]}, headers=ADMIN)
        assert (refused.status_code, refused.json()["error"]) == (503, "nothing was withdrawn")
    assert "withdrawn.json, the models that were withdrawn, cannot be read" in server.log.read_text()
    assert file.read_bytes() == content[: len(content) // 2]
    file.write_bytes(content)
    server.ready()
    server.wait(lambda: server.ask().status_code == 200)
    assert server.ask().json()["turnout"]["pending"] == [0]


@pytest.mark.heavy
def test_models_are_withdrawn_under_load_and_in_no_answer_asked_for_afterwards(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Two workers; one model at a time says green and is withdrawn, then the next generation replaces it."""
    server = Withdrawing(tmp_path_factory.mktemp("load"), TOKENS, workers=2, timeout_seconds=60)

    def next_generation() -> str:
        """The digest of the one that says green."""
        number = server.generation + 1
        models = biases(number)
        models[number % 5] = (0, 30, number / 100)
        server.publish(models)
        return server.digests()[number % 5]

    green, done = [next_generation()], threading.Event()
    withdrawn: list[tuple[int, float]] = []  # generation, time of the confirmation
    answered: list[list[tuple[float, int, int]]] = [[] for _ in range(8)]  # asked at, generation, votes for green

    def hammer(number: int) -> None:
        with server.client(headers=NPY | API) as client:
            while not done.is_set():
                asked = time.monotonic()
                answer = client.post(RAW, content=BODY)
                assert answer.status_code == 200, answer.text
                document = answer.json()
                votes = document["predictions"][0]["votes"]
                assert sum(votes) == document["turnout"]["answered"] >= 4
                answered[number].append((asked, document["generation"], votes[1]))

    def more_answers(number: int) -> None:
        so_far = sum(map(len, answered))
        server.wait(lambda: sum(map(len, answered)) >= so_far + number or any(each.done() for each in hammers))

    with server, ThreadPoolExecutor(8) as crowd:
        server.ready()
        hammers = [crowd.submit(hammer, number) for number in range(8)]
        try:
            for _ in range(8):
                more_answers(40)
                told = server.withdraw(green[-1])
                withdrawn.append((server.generation, time.monotonic()))
                assert told["listed"] == [green[-1]]
                more_answers(40)  # 8 of them were asked for before
                green.append(next_generation())
        finally:
            done.set()
        for each in hammers:
            each.result()
    answers = [answer for list_ in answered for answer in list_]
    for generation, confirmed in withdrawn:
        later = [votes for asked, named, votes in answers if named == generation and asked > confirmed]
        assert later
        assert not any(later)
        assert any(votes for asked, named, votes in answers if named == generation and asked < confirmed)


@pytest.mark.heavy
@pytest.mark.parametrize("shared", ["state folder", "manifest's volume", "both"])
def test_two_services_and_a_third_started_afterwards_know_it(tmp_path: Path, shared: str) -> None:
    environment = dict(TOKENS)
    services = [tmp_path / name for name in ("one", "two", "three")]
    if shared == "state folder":
        environment["SISA_SERVE_STATE"] = str(tmp_path / "state")
        for folder in services:
            publish(folder / "models", 1, biases(1))
    else:
        environment["SISA_SERVE_MODELS"] = str(tmp_path / "models")
        if shared == "both":  # as by default
            environment["SISA_SERVE_STATE"] = str(tmp_path / "models/state")
        publish(tmp_path / "models", 1, biases(1))
    one, two, three = (Withdrawing(folder, environment) for folder in services)
    with one, two:
        one.ready()
        two.ready()
        sha256 = one.describe()["shards"][2]["sha256"]
        assert two.ask().json()["turnout"]["answered"] == 5
        assert one.withdraw(sha256)["listed"] == [sha256]
        assert two.ask().json()["turnout"]["pending"] == one.ask().json()["turnout"]["pending"] == [2]
        with three:
            assert three.ready().ask().json()["turnout"]["pending"] == [2]
            assert three.withdraw(sha256)["total"] == 1


@pytest.mark.heavy
def test_a_service_killed_between_writing_and_answering_has_withdrawn(tmp_path: Path) -> None:
    server = Withdrawing(tmp_path, TOKENS, workers=2)
    server.publish()
    file = server.models / "state/withdrawn.json"
    for round_ in range(3):
        server.start()
        server.ready()
        digest = server.digests()[round_]
        size = file.stat().st_size if file.exists() else 0
        request = json.dumps({"sha256": [digest]}).encode()
        head = (
            f"POST {WITHDRAW} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer adm1n\r\nContent-Type: application/json\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"{head}Content-Length: {len(request)}\r\n\r\n".encode() + request)
            while not file.exists() or file.stat().st_size == size:
                assert server.process.poll() is None
            parent = psutil.Process(server.process.pid)
            for process in (*parent.children(recursive=True), parent):  # workers are no part of its group
                process.kill()
            server.process.wait()
        with server:
            server.wait(lambda: server.status("/livez") == 200)
            expected = list(range(round_ + 1))
            server.wait(lambda expected=expected: server.describe().get("turnout", {}).get("pending") == expected)
            assert server.withdraw(digest)["total"] == round_ + 1


@pytest.mark.heavy
def test_a_manifest_brought_back_by_git_never_answers_with_it(tmp_path: Path) -> None:
    server = Withdrawing(tmp_path, TOKENS)
    server.publish()
    (digest, *_) = server.digests()

    def git(*command: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("add", "models")
    git("commit", "-m", "one")
    with server:
        server.ready()
        server.withdraw(digest)
        server.publish()
        assert server.ask().json()["turnout"]["pending"] == []
        git("checkout", "--", "models/ensemble.json")
        assert server.ask().status_code == 503  # older than what has been seen
        (server.models / "state/floor.json").unlink()
        write_manifest(server.models, (server.models / "ensemble.json").read_text())
        assert server.ready().ask().json()["turnout"]["pending"] == [0]
    shutil.rmtree(server.models / "onnx")
    git("checkout", "--", "models")
    with server:
        assert server.ready().ask().json()["turnout"]["pending"] == [0]


def test_without_an_admin_token_nobody_withdraws_and_the_floor_is_told(tmp_path: Path) -> None:
    server = Withdrawing(tmp_path, {"SISA_API_TOKEN": "s3cret"})
    server.publish()
    with server:
        server.ready()
        assert server.describe()["floor"] == "none"
        for headers in ({}, API, ADMIN):
            answer = httpx.post(server.url + WITHDRAW, json={"sha256": [HEX]}, headers=headers)
            assert answer.status_code == 403
            assert answer.json() == {
                "error": "no models can be withdrawn here",
                "field": None,
                "expected": "a service that was started with SISA_ADMIN_TOKEN",
                "found": "none is set",
            }
    with server:  # with the state that it left
        assert server.ready().describe()["floor"] == 1
    assert not (server.models / "state/withdrawn.json").exists()


@pytest.mark.heavy
def test_a_floor_given_at_deployment_is_told_and_kept(tmp_path: Path) -> None:
    server = Withdrawing(tmp_path, {**TOKENS, "SISA_SERVE_MIN_GENERATION": "2"}, workers=2)
    server.publish()
    with server:
        assert server.status("/readyz") == 503
        server.wait(lambda: "deployed to answer from 2" in server.log.read_text())
        server.publish()
        assert server.ready().describe()["floor"] == 2
        server.publish()
        server.wait(lambda: all(server.describe()["floor"] == 3 for _ in range(4)))


def test_the_commands_of_the_readme_withdraw_as_written(server: Withdrawing) -> None:
    """Curl, and what is run inside a pod, which has no curl; kubectl itself is not run."""
    readme = (REPOSITORY / "deploy/README.md").read_text().partition("\n## Withdraw models\n")[2].partition("\n## ")[0]
    curl, kubectl = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    program = re.search(r"python -c '\n(.*?)\n'", kubectl, re.DOTALL)
    assert program is not None
    url = "http://127.0.0.1:3000"
    assert url in curl
    assert url in program[1]
    first, second = server.digests()[:2]
    for number, (command, digest) in enumerate(
        [
            (["sh", "-ec", curl.replace(url, server.url)], first),
            ([sys.executable, "-c", program[1].replace(url, server.url), second], second),
        ]
    ):
        environment = {**os.environ, **TOKENS, "SHA256": digest}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["turnout"]["pending"] == list(range(number + 1))


def test_two_tokens_of_one_value_stop_the_start(tmp_path: Path) -> None:
    server = Withdrawing(tmp_path, {"SISA_ADMIN_TOKEN": "same", "SISA_API_TOKEN": "same"})
    server.publish()
    server.start()
    assert server.process.wait(60) != 0
    assert "SISA_API_TOKEN and SISA_ADMIN_TOKEN are the same" in server.log.read_text()
