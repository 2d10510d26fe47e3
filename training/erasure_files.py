"""Where what comes after a deletion is kept: a project's own, which experiments share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ErasureFiles:
    """``memory``: the folder ``.sisa``. ``keys``: of public keys, for git."""

    memory: Path
    keys: Path

    def findings(self, sha256: str) -> Path:  # what `sisa verify` or `sisa purge` found, by its content
        return self.memory / f"findings/{sha256}.json"

    @property
    def certificates(self) -> Path:
        return self.memory / "certificates"

    @property
    def requesters(self) -> Path:  # what is sent to them; deleted by the next purge
        return self.memory / "requesters"

    @property
    def verification(self) -> Path:  # the workspace in which shards are trained again, while that lasts
        return self.memory / "verify"
