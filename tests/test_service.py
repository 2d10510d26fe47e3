"""The service over real HTTP: what it answers, what it refuses, and that its documentation says so."""

import json
import re
import signal
import socket
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server import BLUE, CLASSES, FLAT, GREEN, LIMITS, RED, REPOSITORY, Server, encoded, npy, picture, publish

from serving.ensemble.aggregation import mean_probabilities
from serving.ensemble.loading import load_ensemble

ZERO = picture(np.zeros(3, np.uint8)).tolist()
NPY, IS_JSON = {"content-type": "application/x-npy"}, {"content-type": "application/json"}
MAX_IMAGES, MAX_BODY_BYTES = LIMITS["max_images"], LIMITS["max_body_bytes"]


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def documented(server: Server) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(server.url + "/docs.json").json()
    return document


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{number}.png", content)) for number, content in enumerate(contents)]


def test_all_three_routes_give_the_same_answers(client: httpx.Client) -> None:
    images = np.stack([picture(colour) for colour in (RED, GREEN, BLUE)])
    answers = [
        client.post("/v1/predict", json={"images": images.tolist()}),
        client.post("/v1/predict/npy", content=npy(images), headers=NPY),
        client.post("/v1/predict/image", files=files(*(encoded(image) for image in images))),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()


def test_an_answer_by_hand(client: httpx.Client) -> None:
    """Four shards: two flat, one that loves green, one with a little more for red."""
    body = {"images": [picture(RED).tolist()], "mode": "vote"}
    answer = client.post("/v1/predict", json=body).json()
    softmax = [np.exp(logits) / np.exp(logits).sum() for logits in ([10, 0, 0], [10, 0, 0], [10, 20, 0], [11, 0, 0])]
    (prediction,) = answer["predictions"]
    assert (answer["generation"], answer["mode"]) == (7, "vote")
    assert (prediction["label"], prediction["class"]) == (0, "red")
    assert prediction["votes"] == [3, 1, 0]
    assert prediction["confidence"] == 0.75
    assert prediction["robustness"] == 0  # (3 - 1 - 1) // 2
    assert answer["turnout"] == {"answered": 4, "of": 4, "pending": [], "earlier_slice": []}
    assert prediction["probabilities"] == pytest.approx(np.mean(softmax, axis=0), abs=1e-6)


def test_answers_equal_direct_onnxruntime(server: Server, client: httpx.Client) -> None:
    images = np.random.default_rng(0).integers(0, 256, (MAX_IMAGES, 4, 4, 3), np.uint8)
    answer = client.post("/v1/predict/npy", content=npy(images), headers=NPY).json()
    direct = mean_probabilities(load_ensemble(server.models, threads=1).shard_probabilities(images))
    served = np.array([prediction["probabilities"] for prediction in answer["predictions"]])
    assert served == pytest.approx(direct, abs=1e-6)
    assert [prediction["label"] for prediction in answer["predictions"]] == direct.argmax(axis=1).tolist()


@pytest.mark.parametrize("mode", ["mean", "vote"])
def test_the_mode_may_be_given_in_the_query_or_where_there_is_a_body_for_it(client: httpx.Client, mode: str) -> None:
    images, file = picture(RED)[None], files(encoded(picture(RED)))
    answers = [
        client.post(f"/v1/predict?mode={mode}", json={"images": images.tolist()}),
        client.post("/v1/predict", json={"images": images.tolist(), "mode": mode}),
        client.post(f"/v1/predict/npy?mode={mode}", content=npy(images), headers=NPY),
        client.post(f"/v1/predict/image?mode={mode}", files=file),
        client.post("/v1/predict/image", files=file, data={"mode": mode}),
    ]
    assert [answer.json()["mode"] for answer in answers] == [mode] * 5


def test_the_ensembles_description_ties_an_answer_to_a_training_state(server: Server, client: httpx.Client) -> None:
    description = client.get("/v1/ensemble").json()
    manifest = json.loads((server.models / "ensemble.json").read_text())
    for name in ("generation", "aggregation", "forgotten", "image_shape"):
        assert description[name] == manifest[name]
    assert description["classes"] == list(CLASSES)
    assert description["retained"] == 400
    for told, listed in zip(description["shards"], manifest["shards"], strict=True):
        named = {name: listed[name] for name in ("shard", "retained", "key", "abstains", "sha256")}
        assert told == {**named, "pending": False, "earlier_slice": None}
    assert description["turnout"] == {"answered": 4, "of": 4, "pending": [], "earlier_slice": []}
    assert (description["needed"], description["ledger"], description["open_requests"]) == (2, None, None)
    assert (description["provider"], description["backbone"]) == ("CPUExecutionProvider", None)
    assert description["limits"] == LIMITS


def form(*parts: str, boundary: str = "b", end: str = "--b--\r\n") -> dict[str, Any]:
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + end
    return {"content": body.encode(), "headers": {"content-type": f"multipart/form-data; boundary={boundary}"}}


def part(name: str, value: str, filename: str | None = None) -> str:
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'Content-Disposition: form-data; name="{name}"{named}\r\n\r\n{value}'


JSON, FILES, RAW = "/v1/predict", "/v1/predict/image", "/v1/predict/npy"
GOOD: dict[str, Any] = {"json": {"images": [ZERO]}}
PNG = encoded(picture(RED))

REFUSED: list[tuple[str, dict[str, Any], int, str | None]] = [
    (JSON, {"json": {"images": []}}, 400, "images"),
    (JSON, {"json": {"images": [ZERO] * (MAX_IMAGES + 1)}}, 413, "images"),
    (JSON, {"json": {"images": ZERO}}, 400, "images[0][0][0]"),
    (JSON, {"json": {"images": [ZERO[:2]]}}, 400, "images"),
    (JSON, {"json": {"images": [[*ZERO, ZERO[0][:1]]]}}, 400, "images"),
    (JSON, {"json": {"images": [[[[0.5, 0, 0]]]]}}, 400, "images[0][0][0][0]"),
    (JSON, {"json": {"images": [[[[256, 0, 0]]]]}}, 400, "images[0][0][0][0]"),
    (JSON, {"content": b'{"images": [[[[NaN]]]]}', "headers": IS_JSON}, 400, "images[0][0][0][0]"),
    (JSON, {"content": b"[" * 50_000, "headers": IS_JSON}, 413, "images"),
    (JSON, {"content": b"", "headers": IS_JSON}, 400, None),
    (JSON, {"json": {"images": [ZERO], "mode": "median"}}, 400, "mode"),
    (JSON, {"json": {"pictures": [ZERO]}}, 400, "pictures"),
    (JSON, {"json": {}}, 400, "images"),
    (JSON, {"content": json.dumps(GOOD["json"])}, 415, "Content-Type"),
    (JSON, {"content": b"x", "headers": {"content-type": "application/vnd.bentoml+pickle"}}, 415, "Content-Type"),
    (JSON, {"content": b"x", "headers": [("content-type", "application/vnd.bentoml+pickle"), *IS_JSON.items()]}, 415,
     "Content-Type"),
    (JSON + "?mode=median", GOOD, 400, "mode"),
    (JSON + "?mode=mean&mode=vote", GOOD, 400, "mode"),
    (JSON + "?model=x", GOOD, 400, "model"),
    (JSON + "?mode=mean", {"json": {"images": [ZERO], "mode": "vote"}}, 400, "mode"),
    (JSON, {"content": b" " * (MAX_BODY_BYTES + 1), "headers": IS_JSON}, 413, None),
    (JSON, {"content": iter([b" " * 50_000] * 5), "headers": IS_JSON}, 413, None),
    (RAW, {"content": npy(np.zeros((1, 4, 4, 3), np.float32)), "headers": NPY}, 400, "dtype"),
    (RAW, {"content": npy(np.zeros((4, 4, 3), np.uint8)), "headers": NPY}, 400, "shape"),
    (RAW, {"content": npy(np.array([{"a": 1}])), "headers": NPY}, 400, "dtype"),
    (RAW, {"content": npy(np.zeros((1, 4, 4, 3), np.uint8))[:-1], "headers": NPY}, 400, "shape"),
    (RAW, {"content": b"no array", "headers": NPY}, 400, None),
    (RAW, {"content": npy(np.zeros((1, 4, 4, 3), np.uint8))}, 415, "Content-Type"),
    (FILES, {"files": files(PNG, b"no picture")}, 400, "images[1]"),
    (FILES, {"files": files(PNG[:30])}, 400, "images[0]"),
    (FILES, {"files": files(encoded(picture(RED, 1001)))}, 413, "images[0]"),
    (FILES, {"files": files(*[PNG] * (MAX_IMAGES + 1))}, 413, "images"),
    (FILES, {"files": [("picture", ("a.png", PNG))]}, 400, "picture"),
    (FILES, {"files": files(PNG), "data": {"mode": "median"}}, 400, "mode"),
    (FILES, {"files": [*files(PNG), ("mode", ("mode.txt", b"mean"))]}, 400, "mode"),
    (FILES, form(part("images", "http://127.0.0.1:9/a.png")), 400, "images"),
    (FILES, form(part("mode", "mean")), 400, "images"),
    (FILES, form(part("images", "x", "a.png"), end=""), 400, None),
    (FILES, form(part("images", "x", "a.png"), end="--b--\r\n", boundary="other"), 400, None),
    (FILES, form(part("images", "x", "a.png"), end='--b\r\n' + part("images", "x--b--", "b.png")), 400, None),
    (FILES, form(part("mode", "mean"), boundary="b; charset=punycode", end=""), 415, "Content-Type"),
    (FILES, form("no header"), 400, None),
    (FILES, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, None),
    (FILES, {"data": {"images": "http://127.0.0.1:9/a.png"}}, 415, "Content-Type"),
    (FILES, GOOD, 415, "Content-Type"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_a_4xx_that_says_what_was_expected_and_found(
    client: httpx.Client, documented: dict[str, Any], case: tuple[str, dict[str, Any], int, str | None]
) -> None:
    route, body, status, field = case
    answer = client.post(route, **body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem.keys() == {"error", "field", "expected", "found"}
    assert problem["field"] == field
    assert problem["error"]
    assert problem["expected"]
    responses = documented["paths"][route.partition("?")[0]]["post"]["responses"]
    assert str(status) in responses


@pytest.mark.parametrize(
    ("parameters", "boundary", "after"),
    [
        ("boundary=b", "b", "an epilogue " * 100),
        ('charset=UTF-8; Boundary="b;c"', "b;c", ""),
        ("boundary=" + "b" * 256, "b" * 256, ""),
    ],
)
def test_a_complete_form_is_one_however_its_boundary_is_written(
    client: httpx.Client, parameters: str, boundary: str, after: str
) -> None:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'.encode()
    body = head + PNG + f"\r\n--{boundary}--\r\n{after}".encode()
    headers = {"content-type": f"multipart/form-data; {parameters}"}
    assert client.post(FILES, content=body, headers=headers).status_code == 200


def test_other_paths_and_methods_under_v1_are_refused_alike(client: httpx.Client) -> None:
    for method, path, status in (
        ("GET", JSON, 405),
        ("PUT", RAW, 405),
        ("POST", "/v1/ensemble", 405),
        ("GET", "/v1/x", 404),
        ("POST", "/v1/", 404),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert answer.json().keys() == {"error", "field", "expected", "found"}


def test_bad_requests_harm_no_good_one_sent_at_the_same_time(client: httpx.Client) -> None:
    colours = {"red": RED, "blue": BLUE}

    def ask(number: int) -> None:
        name = ("red", "blue", "bad")[number % 3]
        if name == "bad":
            assert client.post(JSON, json={"images": [[[[0.5]]]]}).status_code == 400
        else:
            images = np.stack([picture(colours[name])] * (1 + number % 4))
            answer = client.post(RAW, content=npy(images), headers=NPY)
            assert [row["class"] for row in answer.json()["predictions"]] == [name] * len(images)

    with ThreadPoolExecutor(16) as crowd:
        list(crowd.map(ask, range(120)))


def test_a_client_that_goes_away_midway_does_no_harm(server: Server, client: httpx.Client) -> None:
    head = f"POST {JSON} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    for sent in (head, head + '{"images"'):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent.encode())
    assert client.post(JSON, **GOOD).status_code == 200
    assert "Traceback" not in server.log.read_text()


def test_a_request_id_is_taken_over_or_made_and_stands_in_the_access_log(server: Server, client: httpx.Client) -> None:
    given = client.post(JSON, **GOOD, headers={"x-request-id": "audit-42"}).headers
    assert given["x-request-id"] == "audit-42"
    foreign = client.post(JSON, **GOOD, headers={"x-request-id": 'x", "status": 200'}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", foreign)
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line.get("request_id") == "audit-42")
    assert (line["method"], line["path"], line["status"]) == ("POST", JSON, 200)
    assert (line["images"], line["generation"]) == (1, 7)
    assert line["milliseconds"] > 0


def sample(client: httpx.Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        found.value
        for family in families
        for found in family.samples
        if found.name == name and labels.items() <= found.labels.items()
    )


def test_metrics_count_what_was_asked(client: httpx.Client) -> None:
    names = ["requests_total", "images_total", "predicted_total", "confidence_count", "margin_count"]
    names = [f"sisa_{name}" for name in (*names, "disagreements_total")]
    labels = [{"route": RAW, "status": "200"}, {"route": RAW}, {"class": "green"}, {}, {}, {}]

    def counts() -> list[float]:
        return [sample(client, name, **label) for name, label in zip(names, labels, strict=True)]

    before = counts()
    images = np.stack([picture(RED), picture(GREEN), picture(GREEN)])  # of the four shards one says green to all
    assert client.post(RAW, content=npy(images), headers=NPY).status_code == 200
    assert [after - was for after, was in zip(counts(), before, strict=True)] == [1, 3, 2, 3, 3, 1]
    assert (sample(client, "sisa_in_flight"), sample(client, "sisa_build_info")) == (0, 1)
    assert sample(client, "sisa_request_seconds_count", route=RAW, status="200") >= 1
    assert sample(client, "sisa_batch_images_sum") >= 3
    assert [sample(client, f"sisa_{name}") for name in ("generation", "generation_floor", "ready")] == [7, 7, 1]


def test_decodings_that_are_refused_are_counted_by_what_was_wrong(client: httpx.Client) -> None:
    reasons = ["the pixels are of another type", "a field is missing", "the picture is not complete"]

    def counts() -> list[float]:
        return [sample(client, "sisa_decodings_refused_total", reason=reason) for reason in reasons]

    before = counts()
    for _ in range(2):
        client.post(RAW, content=npy(np.zeros((1, 4, 4, 3), np.float32)), headers=NPY)
    client.post(JSON, json={})
    client.post(FILES, files=files(PNG, PNG[:30]))
    client.post(FILES, data={"mode": "median"}, files=files(PNG))  # refused before it is decoded
    assert [after - was for after, was in zip(counts(), before, strict=True)] == [2, 1, 1]


def test_the_build_that_answers_is_told_by_its_versions(client: httpx.Client) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert sample(client, "sisa_build_info", version=project["version"], bento="none", bentoml=version("bentoml")) == 1


def test_the_documentation_names_every_route(client: httpx.Client, documented: dict[str, Any]) -> None:
    for path, methods in documented["paths"].items():
        for method in methods:
            assert client.request(method, path).status_code not in (404, 405), path
    for status in ("200", "400", "401", "408", "413", "415", "429", "500", "503", "504"):
        assert status in documented["paths"][JSON]["post"]["responses"]


def test_the_documentation_has_the_bounds_of_what_is_taken(documented: dict[str, Any]) -> None:
    (arrays,) = documented["paths"][JSON]["post"]["requestBody"]["content"].values()
    level, bounds = arrays["schema"]["properties"]["images"], []
    while level["type"] == "array":
        bounds.append((level["minItems"], level["maxItems"]))
        level = level["items"]
    assert bounds == [(1, MAX_IMAGES), (4, 4), (4, 4), (3, 3)]
    assert (level["type"], level["minimum"], level["maximum"]) == ("integer", 0, 255)
    (form,) = documented["paths"][FILES]["post"]["requestBody"]["content"].values()
    images = form["schema"]["properties"]["images"]
    assert (images["minItems"], images["maxItems"]) == (1, MAX_IMAGES)
    assert form["encoding"]["images"]["contentType"] == "image/png, image/jpeg, image/webp"


def test_the_documented_header_of_an_npy_file_is_that_of_numpy(documented: dict[str, Any]) -> None:
    (file,) = documented["paths"][RAW]["post"]["requestBody"]["content"].values()
    (header,) = re.findall(r"\{.*\}", file["schema"]["description"])
    assert header.encode() in npy(np.zeros((1, 4, 4, 3), np.uint8))


def test_answers_are_as_documented(client: httpx.Client, documented: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    def check(instance: object, model: str) -> None:
        jsonschema.validate(instance, {"$ref": f"#/components/schemas/{model}", "components": documented["components"]})

    check(client.post(JSON, **GOOD).json(), "Predictions")
    check(client.get("/v1/ensemble").json(), "EnsembleDescription")
    check(client.post(JSON, json={}).json(), "Problem")


def test_pages_call_nobody_else(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text)
        assert "googletagmanager" not in answer.text
        assert "default-src" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in client.get("/", headers={"origin": "http://elsewhere"}).headers


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A token, two requests at a time, a second for each."""
    folder = tmp_path_factory.mktemp("strict")
    publish(folder / "models", 1, [FLAT])
    limits: dict[str, Any] = {"max_concurrency": 2, "timeout_seconds": 1}
    with Server(folder, {"SISA_API_TOKEN": "s3cret"}, **limits) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


AUTHORIZED = {"authorization": "Bearer s3cret"}


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", "s3cret", "Basic s3cret", "Bearer s3cretx"])
def test_v1_asks_for_the_token_and_the_rest_does_not(strict: Server, given: str | None) -> None:
    with strict.client(headers={"authorization": given} if given else {}) as client:
        for answer in (client.get("/v1/ensemble"), client.post(JSON, **GOOD), client.post("/v1/nothing")):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/livez", "/readyz", "/healthz", "/metrics", "/", "/docs.json"):
            assert client.get(path).status_code == 200
    for scheme in ("Bearer", "bearer"):
        with strict.client(headers={"authorization": f"{scheme} s3cret"}) as client:
            assert client.post(JSON, **GOOD).status_code == 200


def slow_body(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = f"POST {JSON} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\nContent-Type: application/json\r\n"
    connection.sendall((head + 'Content-Length: 100\r\n\r\n{"images"').encode())
    return connection


def test_slow_bodies_take_nobodys_place_and_end_when_their_time_is_up(strict: Server) -> None:
    with slow_body(strict) as first, slow_body(strict) as second, strict.client(headers=AUTHORIZED) as client:
        assert [client.post(JSON, **GOOD).status_code for _ in range(3)] == [200] * 3
        for connection in (first, second):
            connection.settimeout(20)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_request_that_takes_too_long_is_a_504_that_says_so(strict: Server) -> None:
    publish(strict.models, 2, [FLAT], work=400)
    with strict.client(headers=AUTHORIZED) as client:
        strict.wait(lambda: client.get("/v1/ensemble").json().get("generation") == 2)
        answer = client.post(JSON, **GOOD)
    assert (answer.status_code, answer.json()["expected"]) == (504, "within 1 seconds")


def test_more_requests_at_once_than_are_allowed_are_429(strict: Server) -> None:
    """Two are at work for a second each, until their time is up; the third comes meanwhile."""
    with strict.client(headers=AUTHORIZED) as client, ThreadPoolExecutor(2) as crowd:
        strict.wait(lambda: client.get("/v1/ensemble").json().get("generation") == 2)
        at_work = [crowd.submit(client.post, JSON, **GOOD) for _ in range(2)]
        strict.wait(lambda: client.get("/v1/ensemble").status_code == 429)
        answer = client.get("/v1/ensemble")
        if answer.status_code == 429:  # the two may have run out of time just now
            assert answer.headers["retry-after"] == "1"
        assert client.get("/livez").status_code == 200
        assert [answer.result().status_code for answer in at_work] == [504, 504]


def test_work_for_a_client_that_has_gone_is_dropped_and_logged_as_499(strict: Server) -> None:
    publish(strict.models, 3, [FLAT], work=400)  # a second and more
    with strict.client(headers=AUTHORIZED) as client:
        strict.wait(lambda: client.get("/v1/ensemble").json().get("generation") == 3)
        with pytest.raises(httpx.ReadTimeout):
            client.post(JSON, **GOOD, headers={"x-request-id": "gone"}, timeout=0.3)
    strict.wait(lambda: '"request_id": "gone"' in strict.log.read_text())
    (line,) = [line for line in strict.log.read_text().splitlines() if '"request_id": "gone"' in line]
    assert json.loads(line)["status"] == 499
    assert "Traceback" not in strict.log.read_text()


@pytest.mark.heavy
def test_a_client_that_has_gone_delays_no_stop(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT], work=400)
    with Server(tmp_path) as running, running.client() as client:
        running.wait(lambda: running.status("/readyz") == 200)
        with pytest.raises(httpx.ReadTimeout):
            client.post(JSON, **GOOD, timeout=0.3)
        running.wait(lambda: '"status": 499' in running.log.read_text())
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0  # and not after BentoML's time-out, half a minute or more


@pytest.mark.heavy
def test_nothing_is_decoded_any_more_a_second_after_its_504(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT])
    large = encoded(picture(RED, 6300), "WEBP", lossless=True)  # most of a second
    with Server(tmp_path, timeout_seconds=0.3) as running, running.client() as client:
        running.wait(lambda: running.status("/readyz") == 200)
        answers = [client.post(FILES, files=files(large)).status_code for _ in range(4)]
        assert answers == [504] * 4
        time.sleep(1)
        processes = [each.cmdline() for each in psutil.Process(running.process.pid).children(recursive=True)]
        assert [command for command in processes if "serving.decoder" in command] == []


@pytest.mark.heavy
def test_large_pictures_are_answered_as_small_ones_are(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT])
    large = encoded(picture(RED, 2000), "WEBP", lossless=True)  # 4 million pixels: a process decodes it
    with Server(tmp_path, workers=2) as running, running.client() as client:
        running.wait(lambda: running.status("/readyz") == 200)
        answers = [client.post(FILES, files=files(content)) for content in (large, encoded(picture(RED)), large)]
        assert [answer.json()["predictions"][0]["label"] for answer in answers] == [0, 0, 0]
        assert client.post(FILES, files=files(large[:-100])).status_code == 400
