"""nginx in front of the service, as deploy/proxy has it: the real nginx, the real service, over loopback."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from server import FLAT, RED, REPOSITORY, Server, free_port, npy, picture, publish

pytestmark = pytest.mark.heavy

TEMPLATE = REPOSITORY / "deploy/proxy/sisa.conf.template"
COMPOSE = REPOSITORY / "deploy/docker-compose.proxy.yaml"
RAW = "/v1/predict/npy"
GOOD: dict[str, Any] = {"content": npy(picture(RED)[None]), "headers": {"content-type": "application/x-npy"}}
RATE, CONNECTIONS = 20, 8


def filled(template: str, values: dict[str, str]) -> str:
    """As nginx's image does it with envsubst; a variable that has no value is an error here."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], template)


class Proxy:
    def __init__(self, folder: Path, service: Server) -> None:
        self.folder = folder
        self.port = free_port()
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "tls.key", "-out", "tls.crt"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        values = {
            "SISA_PROXY_SERVICE": f"127.0.0.1:{service.port}",
            "SISA_PROXY_LISTEN": f"127.0.0.1:{self.port}",
            "SISA_PROXY_CERTIFICATES": str(folder),
            "SISA_PROXY_REQUESTS_PER_SECOND": str(RATE),
            "SISA_PROXY_CONNECTIONS": str(CONNECTIONS),
        }
        text = filled(TEMPLATE.read_text(), values).replace("/dev/stdout", str(folder / "access.log"))
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
        temporary += "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; events {{}} http {{ {temporary}\n{text} }}")
        self.context = ssl.create_default_context(cafile=folder / "tls.crt")

    def client(self, source: str = "127.0.0.1") -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.context, local_address=source)
        return httpx.Client(base_url=f"https://localhost:{self.port}", transport=transport, timeout=20)

    def __enter__(self) -> Proxy:
        command = ["nginx", "-p", str(self.folder), "-e", str(self.folder / "error.log"), "-c", "nginx.conf"]
        self.process = subprocess.Popen(command, cwd=self.folder)
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            assert self.process.poll() is None, (self.folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx on the PATH")
    folder = tmp_path_factory.mktemp("behind")
    publish(folder / "models", 1, [FLAT, FLAT])
    with Server(folder, {"FORWARDED_ALLOW_IPS": "*", "SISA_ADMIN_TOKEN": "adm1n"}) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


@pytest.fixture(scope="module")
def proxy(service: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with Proxy(tmp_path_factory.mktemp("proxy"), service) as running:
        yield running


def test_answers_come_through_over_tls_and_are_those_of_the_service(service: Server, proxy: Proxy) -> None:
    with proxy.client() as client, service.client() as direct:
        assert client.post(RAW, **GOOD).json() == direct.post(RAW, **GOOD).json()
        bad = client.post(RAW, content=b"no", headers=GOOD["headers"])
    assert (bad.status_code, bad.json()["error"]) == (400, "the body is not a .npy file")


def test_the_service_sees_the_client_behind_it_and_not_what_that_says_of_itself(service: Server, proxy: Proxy) -> None:
    with proxy.client("127.0.0.7") as client:
        headers = GOOD["headers"] | {"x-request-id": "behind", "x-forwarded-for": "203.0.113.9"}
        assert client.post(RAW, content=GOOD["content"], headers=headers).status_code == 200
    service.wait(lambda: '"request_id": "behind"' in service.log.read_text())
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["client"] for line in lines if line.get("request_id") == "behind"] == ["127.0.0.7"]


@pytest.mark.parametrize("path", ["/metrics", "/v1/withdraw"])
def test_what_is_for_those_inside_is_not_there(proxy: Proxy, path: str) -> None:
    with proxy.client() as client:
        assert client.get(path).status_code == client.post(path).status_code == 404


def test_heads_and_bodies_have_bounds_and_refusals_the_shape_of_the_services(proxy: Proxy) -> None:
    with proxy.client("127.0.0.2") as client:
        refused = [
            (client.get("/v1/ensemble", headers={"x-a": "a" * 40_000}), 431, "the request's head is too long"),
            (client.get("/v1/ensemble?" + "a" * 40_000), 431, "the request's head is too long"),
            (client.post(RAW, content=bytes(17 * 2**20), headers=GOOD["headers"]), 413, "the body is too long"),
            (client.get("/metrics"), 404, "there is nothing here"),
        ]
    for answer, status, error in refused:
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"error": error, "field": None, "expected": None, "found": None}


def test_a_client_has_its_rate_and_others_have_theirs(proxy: Proxy) -> None:
    with proxy.client("127.0.0.3") as greedy, proxy.client("127.0.0.4") as modest:
        statuses = [greedy.get("/livez").status_code for _ in range(4 * RATE)]
        assert modest.get("/livez").status_code == 200
    assert statuses[:RATE] == [200] * RATE
    assert 429 in statuses


def test_compose_gives_every_value_that_the_template_asks_for() -> None:
    environment = yaml.safe_load(COMPOSE.read_text())["services"]["proxy"]["environment"]
    asked = set(re.findall(r"\$\{(\w+)\}", TEMPLATE.read_text()))
    assert asked == {name for name in environment if name.startswith("SISA_PROXY_")}
