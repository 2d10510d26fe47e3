"""What is withdrawn here is withdrawn at services elsewhere, and the ledger knows which of them have not confirmed."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Project
from server import FLAT, Server, publish

from training.drills.drill import Drill, parameters
from training.errors import ParamsError, RequestError
from training.forgetting.asking import withdraw_at
from training.forgetting.services import services_of, withdraw_everywhere
from training.params import load_params
from training.publish.events import Confirmed
from training.publish.history import read_history, unconfirmed, withdrawn_models
from training.publish.withdraw import withdraw
from training.service_url import service_url

TOKEN = "adm1n"
HEX = "a" * 64
MOMENT = 0.3  # seconds of patience where none is needed


class Elsewhere(Server):
    """A service that can be told to withdraw."""

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder, {"SISA_ADMIN_TOKEN": TOKEN, **environment})

    def __enter__(self) -> Elsewhere:
        super().__enter__()
        self.wait(lambda: self.status("/readyz") is not None)
        return self

    def pending(self) -> list[int]:
        description = httpx.get(self.url + "/v1/ensemble").raise_for_status().json()
        return list(description["turnout"]["pending"])


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """A service of other models, which knows none of the digests."""
    folder = tmp_path_factory.mktemp("stranger")
    publish(folder / "models", 1, [FLAT, FLAT])
    with Elsewhere(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_ADMIN_TOKEN", TOKEN)


def unconfirmed_at(project: Project, *services: str) -> list[str]:
    return unconfirmed(read_history(project.workspace), services)


def confirmations(project: Project) -> list[tuple[str, int]]:
    entries = read_history(project.workspace)
    return [(entry.service, entry.models) for entry in entries if isinstance(entry, Confirmed)]


Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def replying(*replies: Reply | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives these replies, the last one for ever; None: it confirms. Its address, what it was sent."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append({"path": self.path, "authorization": self.headers["Authorization"], **body})
            reply = replies[min(len(received), len(replies)) - 1]
            status, headers, content = reply or (200, {}, json.dumps({"withdrawn": body["sha256"]}).encode())
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def nobody() -> str:
    """An address at which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_partition_withdraws_at_the_services_of_params_before_it_does_anything_else(
    trained: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(trained.workspace.models_folder, folder / "models")
    with Elsewhere(folder) as service:
        assert service.pending() == []
        trained.change(publish={"services": [service.url]})
        trained.forget(trained.victim(1, 1), "no such id")
        with pytest.raises(Exception, match="no such id"):
            trained.stages("partition")
        assert service.pending() == [1]
        assert f"withdrawn at {service.url} as well" in capsys.readouterr().out
        assert confirmations(trained) == [(service.url, 1)]
        assert unconfirmed_at(trained, service.url) == []
        (outcome,) = withdraw_everywhere(trained.workspace)
        assert (outcome.problem, outcome.generation, outcome.needed) == (None, 1, 2)
        assert outcome.turnout is not None
        assert outcome.turnout.pending == (1,)
        assert confirmations(trained) == [(service.url, 1)]  # said once


@pytest.mark.heavy
def test_two_replicas_of_one_state_and_a_third_that_starts_later_answer_without_it(
    trained: Project, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        shutil.copytree(trained.workspace.models_folder, folder / "models")
    one, two, three = (Elsewhere(folder, SISA_SERVE_STATE=str(tmp_path / "state")) for folder in folders)
    trained.forget(trained.victim(2, 0))
    withdraw(trained.workspace)
    with one, two:
        assert one.pending() == two.pending() == []
        (outcome,) = withdraw_everywhere(trained.workspace, [one.url])
        assert outcome.problem is None
        assert one.pending() == two.pending() == [2]
        with three:
            assert three.pending() == [2]
        outcomes = withdraw_everywhere(trained.workspace, [one.url, two.url, three.url], patience=MOMENT)
    assert [outcome.problem is None for outcome in outcomes] == [True, True, False]
    assert unconfirmed_at(trained, one.url, two.url, three.url) == [three.url]


def test_a_service_of_other_models_confirms_as_well(trained: Project, stranger: Elsewhere) -> None:
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    (outcome,) = withdraw_everywhere(trained.workspace, [stranger.url])
    assert outcome.problem is None
    assert stranger.pending() == []
    withdrawn = withdrawn_models(read_history(trained.workspace))
    assert withdrawn <= json.loads((stranger.models / "state/withdrawn.json").read_text())["withdrawn"].keys()


def test_more_digests_than_a_request_takes_are_all_withdrawn(stranger: Elsewhere) -> None:
    digests = [f"{number:064x}" for number in range(2001)]
    (outcome,) = withdraw_at([stranger.url], TOKEN, digests, patience=60)
    assert outcome.problem is None
    assert set(digests) <= json.loads((stranger.models / "state/withdrawn.json").read_text())["withdrawn"].keys()


def test_a_service_that_is_away_at_first_is_asked_until_it_confirms(tmp_path: Path) -> None:
    publish(tmp_path / "models", 1, [FLAT, FLAT])
    service = Elsewhere(tmp_path)
    with ThreadPoolExecutor(1) as other:
        with socket.create_server(("127.0.0.1", service.port)) as door:
            asked = other.submit(withdraw_at, [service.url], TOKEN, [HEX], 60)
            connection, _ = door.accept()
            connection.close()  # as a service does that is stopped
        with service:
            assert asked.result()[0].problem is None
            assert list(json.loads((service.models / "state/withdrawn.json").read_text())["withdrawn"]) == [HEX]


def test_what_passes_is_asked_again_and_each_service_waits_for_itself_alone() -> None:
    busy: Reply = (503, {}, b"{}")
    with replying(busy, (504, {}, b""), (429, {}, b""), None) as (slow, sent), replying(None) as (quick, sent_quick):
        outcomes = withdraw_at([slow, nobody(), quick], TOKEN, [HEX], patience=3)
    assert [outcome.problem is None for outcome in outcomes] == [True, False, True]
    assert (len(sent), len(sent_quick)) == (4, 1)
    assert sent_quick == [{"path": "/v1/withdraw", "authorization": f"Bearer {TOKEN}", "sha256": [HEX]}]


REFUSAL = json.dumps({"error": "too bad", "field": None, "expected": "this", "found": "that"}).encode()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((400, {}, REFUSAL), r"400 Bad Request, too bad: expected this, found that.*another version"),
        ((401, {}, REFUSAL), "set that of the service"),
        ((403, {}, REFUSAL), "start it with one"),
        ((404, {}, b"<html>"), r"\(404 Not Found\): there is no POST /v1/withdraw below this address"),
        ((413, {}, b""), "let it pass 128 KiB"),
        ((415, {}, b""), "415 Unsupported Media Type"),
        ((301, {"Location": "https://other/"}, b""), "redirects to https://other/; give the address"),
        ((200, {}, b"<html>welcome</html>"), "not a SISA service"),
        ((200, {}, b'{"withdrawn": []}'), "confirms 0 of 1 models"),
    ],
)
def test_what_will_not_pass_is_asked_once_and_the_message_says_what_to_do(reply: Reply, said: str) -> None:
    with replying(reply) as (url, sent):
        (outcome,) = withdraw_at([url], TOKEN, [HEX], patience=60)
    assert outcome.problem is not None
    assert re.search(said, outcome.problem), outcome.problem
    assert len(sent) == 1
    assert TOKEN not in outcome.problem


def test_a_wrong_token_is_told_and_nothing_is_withdrawn(stranger: Elsewhere) -> None:
    digest = "b" * 64
    (outcome,) = withdraw_at([stranger.url], "wr0ng", [digest], patience=60)
    assert outcome.problem is not None
    assert "the token is wrong" in outcome.problem
    assert "set that of the service" in outcome.problem
    kept = stranger.models / "state/withdrawn.json"
    assert not kept.exists() or digest not in kept.read_text()


@pytest.mark.parametrize("value", [None, "", "two\nlines", "schlüssel"])
def test_without_a_token_that_can_be_sent_nobody_is_asked(value: str | None) -> None:
    with replying(None) as (url, sent):
        outcomes = withdraw_at([url], value, [HEX], patience=60)
    assert "SISA_ADMIN_TOKEN" in str(outcomes[0].problem)
    assert not value or value not in str(outcomes[0].problem)
    assert sent == []


def test_partition_goes_on_without_a_service_and_the_ledger_shows_that_it_has_not_confirmed(
    trained: Project, stranger: Elsewhere, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.stages.partition.PATIENCE", MOMENT)
    away, first = nobody(), trained.victim(1, 1)
    trained.change(publish={"services": [away, stranger.url]})
    trained.forget(first)
    with caplog.at_level(logging.WARNING, "training"):
        trained.stages("partition")
    assert f"NOT WITHDRAWN at {away}" in caplog.text
    assert f"NOT WITHDRAWN at {stranger.url}" not in caplog.text
    assert confirmations(trained) == [(stranger.url, 1)]
    assert unconfirmed_at(trained, away, stranger.url) == [away]
    trained.stages("schedule", "train", "assemble")
    # A later withdrawal has to be confirmed anew.
    trained.forget(first, trained.victim(0, 0))
    withdraw(trained.workspace)
    assert unconfirmed_at(trained, away, stranger.url) == [away, stranger.url]
    withdraw_everywhere(trained.workspace, patience=MOMENT)
    assert confirmations(trained) == [(stranger.url, 1), (stranger.url, 2)]
    assert unconfirmed_at(trained, away, stranger.url) == [away]


def test_while_nothing_is_withdrawn_and_in_an_experiment_nobody_is_told(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replying(None) as (url, sent):
        trained.change(publish={"services": [url]})
        assert withdraw_everywhere(trained.workspace) == []
        assert unconfirmed_at(trained, url) == []
        trained.forget(trained.victim(1, 1))
        withdraw(trained.workspace)
        monkeypatch.setenv("DVC_EXP_NAME", "trial")
        assert withdraw_everywhere(trained.workspace) == []
    assert sent == []


def test_a_drill_tells_no_service(trained: Project) -> None:
    trained.change(publish={"services": ["https://sisa.example.org"]})
    params = trained.workspace.read_params()
    drill = Drill("d", "forget", "", "", params, ("1",), ("before", "after"), {})
    assert "publish" not in parameters(trained.workspace, drill)


def test_services_are_those_of_params_and_those_given_each_once(trained: Project) -> None:
    trained.change(publish={"services": ["https://one.example.org/sisa/", "http://10.0.0.2:3000"]})
    services = services_of(trained.workspace, ["http://10.0.0.2:3000/", "http://three"])
    assert services == ["https://one.example.org/sisa", "http://10.0.0.2:3000", "http://three"]
    with pytest.raises(RequestError, match="'three': expected the address of a service"):
        services_of(trained.workspace, ["three"])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sisa.example.org", "expected the address of a service"),
        ("ftp://sisa.example.org", "'http' or 'https'"),
        ("http://", "empty host"),
        ("http://sisa .example.org", "expected the address of a service"),
        ("https://ann:s3cret@sisa.example.org", "no user and no password"),
        ("https://sisa.example.org?token=1", r"without \? and #"),
        (7, "expected the address of a service"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(trained: Project, url: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        service_url(url)
    trained.change(publish={"services": [url]})
    with pytest.raises(ParamsError, match=rf"publish\.services\.0: .*{said}"):
        load_params(trained.folder / "params.yaml")
