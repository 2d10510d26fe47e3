"""What serving/ leans on in BentoML and uvicorn though neither promises it: an upgrade that ends it is told here."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from typing import Any

import pytest
from _bentoml_impl.worker import service as worker  # type: ignore[import-untyped]
from bentoml._internal.configuration.containers import BentoMLContainer
from uvicorn.config import HTTP_PROTOCOLS, Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.connection import Connection, Limits, speak_http


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that is never asked."""


async def made(kind: type[HttpToolsProtocol]) -> HttpToolsProtocol:
    return kind(Config(application), ServerState(), {})


def test_uvicorn_takes_its_protocol_class_by_the_name_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    monkeypatch.setattr(Connection, "limits", Limits())
    limits = Limits(head_bytes=1024)
    speak_http(limits)
    config = Config(application)
    config.load()
    assert config.http_protocol_class is Connection
    assert Connection.limits is limits


def test_bentoml_leaves_uvicorns_protocol_class_at_auto() -> None:
    source = inspect.getsource(worker)
    assert "uvicorn.Config(" in source
    assert "http=" not in source
    assert inspect.signature(Config).parameters["http"].default == "auto"


def test_bentoml_configures_uvicorn_after_it_has_imported_the_service_and_leaves_logging_alone() -> None:
    source = inspect.getsource(worker)
    steps = ["configure_server_logging()\n", "service = load(", "uvicorn.Config(", "log_config=None"]
    places = [source.index(step) for step in steps]
    assert places == sorted(places)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern")  # BentoML's own, when it is imported
def test_bentomls_command_has_the_host_and_port_that_are_tried_before_it_starts() -> None:
    serve_command = importlib.import_module("bentoml_cli.serve").serve_command
    names = {parameter.name for parameter in serve_command.commands["serve"].params}
    assert {"host", "port"} <= names
    assert (BentoMLContainer.http.host.get(), BentoMLContainer.http.port.get()) == ("0.0.0.0", 3000)


@pytest.mark.parametrize(
    "method",
    [
        "connection_made",
        "connection_lost",
        "data_received",
        "on_message_begin",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "_should_upgrade",
        "_unset_keepalive_if_required",
    ],
)
def test_uvicorns_protocol_has_the_method_that_ours_extends_or_calls(method: str) -> None:
    assert callable(vars(HttpToolsProtocol)[method])


def test_everything_of_ours_that_overrides_uvicorns_is_named_above() -> None:
    (named,) = test_uvicorns_protocol_has_the_method_that_ours_extends_or_calls.pytestmark  # type: ignore[attr-defined]
    overridden = vars(Connection).keys() & vars(HttpToolsProtocol).keys() - {"__module__", "__doc__"}
    assert overridden <= {*named.args[1]}


def test_uvicorns_objects_have_the_attributes_that_ours_reads() -> None:
    protocol = asyncio.run(made(HttpToolsProtocol))
    of_protocol = "client connections cycle flow headers loop parser pipeline server_state transport"
    assert set(of_protocol.split()) <= vars(protocol).keys()
    assert hasattr(protocol.server_state, "default_headers")
    assert callable(FlowControl.resume_reading)
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    of_cycle = "disconnected keep_alive message_event more_body response_complete response_started transport"
    assert [name for name in of_cycle.split() if f"self.{name} = " not in cycle] == []


def test_none_of_uvicorns_own_attributes_is_overwritten_by_accident() -> None:
    taken = vars(asyncio.run(made(HttpToolsProtocol))).keys()
    ours = {"_deaf", "_ended", "_in_message", "_idle_bytes", "_heard", "_deadline", "_timer", "limits", "address"}
    assert not taken & ours
