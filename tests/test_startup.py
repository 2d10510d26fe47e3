"""What keeps the service from starting is one line in its log and exit status 2."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from server import FLAT, Server, publish

pytestmark = pytest.mark.heavy


def refused(folder: Path, environment: dict[str, str] | None = None, port: int | None = None, **settings: Any) -> str:
    """The message of the one line that a start comes to."""
    publish(folder / "models", 1, [FLAT])
    server = Server(folder, environment, **settings)
    server.port = port or server.port
    server.start()
    assert server.process.wait(60) == 2
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    told = [line for line in lines if line["level"] in ("ERROR", "CRITICAL")]
    assert "Traceback" not in server.log.read_text()
    (line,) = told
    message: str = line["message"]
    assert message.startswith("the service cannot start: ")
    return message


@pytest.mark.parametrize(
    ("token", "said"),
    [("s3cret\n", "a newline"), ("", "SISA_API_TOKEN is set and empty; give it a value, or unset it")],
)
def test_a_token_that_cannot_be_sent_is_refused(tmp_path: Path, token: str, said: str) -> None:
    message = refused(tmp_path, {"SISA_API_TOKEN": token})
    assert said in message
    assert "s3cret" not in message


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    assert "max_imges: no such key" in refused(tmp_path, max_imges=3)


def test_a_state_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file/state'}, which keeps what was withdrawn" in refused(tmp_path, state="file/state")


@pytest.mark.parametrize("host", [None, "127.0.0.1"], ids=["by default", "given"])
def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str | None) -> None:
    monkeypatch.delenv("BENTOML_HOST", raising=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = refused(tmp_path, {"BENTOML_HOST": host} if host else {}, port)
    assert f"it cannot listen on {host or '0.0.0.0'}, port {port} (Address already in use)" in message


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("127.0.0.1", 99_999, "port must be 0-65535"),
        ("localhost", None, "does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_a_place_that_cannot_be_listened_on_is_named(tmp_path: Path, host: str, port: int | None, said: str) -> None:
    message = refused(tmp_path, {"BENTOML_HOST": host}, port)
    assert message.startswith(f"the service cannot start: it cannot listen on {host}, port")
    assert said in message
