"""What keeps the service from starting is one line in its log and exit status 2."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from server import FLAT, Server, publish


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


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        environment = {**os.environ, "BENTOML_HOST": "127.0.0.1"}
        message = refused(tmp_path, environment, port)
    assert f"port {port} (Address already in use)" in message
