"""The service's settings: the section ``serve`` of params.yaml, overridden by the environment."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PREFIX = "SISA_SERVE_"
TOKENS = ("SISA_API_TOKEN", "SISA_ADMIN_TOKEN")


class SettingsError(Exception):
    """The service cannot start like this; the message names what was found, what is allowed, what to do."""


class Settings(BaseSettings):
    """What the service may use and what it refuses.

    Each key may be given in the environment as ``SISA_SERVE_<KEY>``, which wins over params.yaml.
    Tokens come from the environment alone, as ``SISA_API_TOKEN`` and ``SISA_ADMIN_TOKEN``.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    models: Path = Field(default=Path("models"), description="folder with ensemble.json and onnx/")
    state: Path = Field(
        default=Path("models/state"), description="folder that keeps the highest generation seen and what was withdrawn"
    )
    min_generation: int = Field(default=0, ge=0, description="no lower generation answers, whatever the state says")
    quorum: float = Field(default=0.5, ge=0, le=1, description="share of the shards with samples that must answer")
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Literal["auto"] | int = Field(default="auto", description="shards that run side by side, one thread each")
    workers: int = Field(default=1, ge=1, le=256)
    max_batch: int = Field(default=64, ge=1)
    max_images: int = Field(default=256, ge=1, description="images in a request")
    max_pixels: int = Field(
        default=40_000_000, ge=1, le=80_000_000, description="pixels of a request's pictures together, as stored"
    )
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    max_bytes_at_work: int = Field(
        default=256 * 2**20, ge=1024, description="bytes of the bodies of all requests at once, all workers together"
    )
    max_concurrency: int = Field(
        default=128, ge=1, description="requests being processed at once, all workers together"
    )
    timeout_seconds: float = Field(default=30, gt=0, le=3600)
    max_head_bytes: int = Field(default=32 * 2**10, ge=1024, description="a request line and its headers")
    head_seconds: float = Field(default=10, gt=0, le=3600, description="for a head to arrive, from its first byte")
    max_connections: Literal["auto"] | int = Field(
        default="auto", description="of one worker; a client may have half of them"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then params.yaml (the initial values)."""
        return env_settings, init_settings

    @property
    def thread_count(self) -> int:
        """Threads of one worker: the workers share the cores this process may use."""
        if self.threads != "auto":
            return self.threads
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.workers)

    @property
    def worker_concurrency(self) -> int:
        """Requests that one worker takes at once."""
        return -(-self.max_concurrency // self.workers)

    @property
    def worker_bytes(self) -> int:
        """Bytes of bodies that one worker takes at once: one body at least."""
        return max(self.max_body_bytes, self.max_bytes_at_work // self.workers)

    @property
    def connection_count(self) -> int:
        """Connections of one worker: half of the descriptors it may open, the other half is for files."""
        if self.max_connections != "auto":
            return self.max_connections
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 1024 if descriptors == resource.RLIM_INFINITY else min(1024, descriptors // 2)


def load_tokens() -> tuple[str | None, str | None]:
    """What is asked for on ``/v1/*``, and what ``/v1/withdraw`` asks for; None where none is set.

    Raises SettingsError when one is empty or cannot be sent in a header, which a newline at its end cannot, and when
    they are the same: whoever may ask for predictions could then withdraw models.
    """
    api, admin = (os.environ.get(name) for name in TOKENS)
    for name, token in zip(TOKENS, (api, admin), strict=True):
        if token == "":
            raise SettingsError(f"{name} is set and empty; give it a value, or unset it")
        if token is not None and not re.fullmatch("[!-~]+", token):
            raise SettingsError(
                f"{name} has a space, a newline or another character that is not visible ASCII; "
                'a file\'s last newline is cut off by "$(cat FILE)"'
            )
    if api is not None and api == admin:
        raise SettingsError("SISA_API_TOKEN and SISA_ADMIN_TOKEN are the same; give each a value of its own")
    return api, admin


def load_settings(root: Path) -> Settings:
    """The settings of ``root/params.yaml`` and the environment; relative folders are taken from ``root``.

    Raises SettingsError naming each misspelt or impossible key.
    """
    path = root / "params.yaml"
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))  # YAML 1.2, as DVC and training read it
    except (OSError, YAMLError, ValueError) as error:  # a ValueError: not UTF-8, or a date that is not in the calendar
        raise SettingsError(f"{path} cannot be read: {error}") from error
    section = document.get("serve", {}) if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise SettingsError(f"{path}: serve must be a section of keys, found {section!r}")
    known = ", ".join(Settings.model_fields)
    for name in os.environ:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in Settings.model_fields:
            raise SettingsError(f"{name}: no such setting (misspelt?); allowed after {PREFIX}: {known}")
    try:
        settings = Settings(**section)
    except ValidationError as error:
        lines = [f"the service's settings ({path}, section serve, and {PREFIX}*) are invalid:"]
        for problem in error.errors():
            key = str(problem["loc"][0])
            if problem["type"] == "extra_forbidden":
                lines.append(f"  {key}: no such key (misspelt?); allowed: {known}")
            else:
                lines.append(f"  {key}: {problem['msg']}, found {problem['input']!r}")
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None
    for name, least in (("threads", 1), ("max_connections", 2)):
        given = getattr(settings, name)
        if given != "auto" and given < least:
            raise SettingsError(f"serve.{name}: auto or a number from {least}, found {given}")
    return settings.model_copy(update={"models": root / settings.models, "state": root / settings.state})
