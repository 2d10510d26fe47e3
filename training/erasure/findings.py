"""What was found when a deletion was looked at: ``.sisa/findings/SHA256.json``, which an entry of the ledger names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from training.errors import (
    BackboneError,
    DamagedError,
    MemoryLostError,
    ParamsError,
    SisaError,
    SourceError,
    TrainingError,
    UncheckedError,
)
from training.files import json_bytes, read_model, sha256_file, write_atomic
from training.workspace import Workspace

Found = TypeVar("Found", bound=BaseModel)
Outcome = Literal["held", "failed", "not checked"]


class Check(BaseModel):
    """One thing that was looked at. ``found``: a sentence, what was compared or what is wrong."""

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    found: str


class Retrained(BaseModel):
    """A shard that was trained from scratch. ``equal``: bit for bit, checkpoints and ONNX file.

    ``differs``: in what this environment is another than the one that trained what is published. ``distance``: mean
    total variation between the two models' probabilities on the test pictures, 0 to 1; ``agreement``: share of those
    pictures that both give the same class. Both are None where the files are equal.
    """

    model_config = ConfigDict(frozen=True)

    shard: int
    equal: bool
    seconds: float
    differs: tuple[str, ...] = ()
    distance: float | None = None
    agreement: float | None = None


class Verification(BaseModel):
    """What `sisa verify` found. ``entries`` and ``head``: the ledger's length and the hex SHA-256 of its last line.

    ``generation`` is 0 and ``manifest_sha256`` empty where nothing is published that can be read.

    ``code``: the commit of the code that verified, with ``+changes`` where files differ from it; None without git.
    ``environment``: what it ran with and on.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    time: str
    generation: int
    manifest_sha256: str
    entries: int
    head: str
    code: str | None
    environment: Mapping[str, str]
    checks: tuple[Check, ...]
    retrained: tuple[Retrained, ...] = ()
    service: str | None = None

    @property
    def outcome(self) -> Outcome:
        """``held`` when every check did; ``failed`` when one did."""
        outcomes = {check.outcome for check in self.checks}
        return "failed" if "failed" in outcomes else "not checked" if "not checked" in outcomes else "held"

    @property
    def passed(self) -> bool:
        return self.outcome == "held"

    @property
    def comparison(self) -> Literal["bits", "predictions"] | None:
        """How retrained shards were compared; the weaker one where both were."""
        if not self.retrained:
            return None
        return "bits" if all(shard.equal for shard in self.retrained) else "predictions"


# Nothing is wrong with what is published: it cannot be looked at here.
CANNOT = (UncheckedError, ParamsError, TrainingError, BackboneError, SourceError, MemoryLostError)


def judge(name: str, look: Callable[[], str]) -> Check:
    """The check that ``look`` makes: it returns a sentence, or raises what is wrong."""
    try:
        return Check(name=name, outcome="held", found=look())
    except CANNOT as error:
        return Check(name=name, outcome="not checked", found=str(error))
    except SisaError as error:
        return Check(name=name, outcome="failed", found=str(error))


def read_findings(workspace: Workspace, sha256: str, kind: type[Found]) -> Found:
    """What was kept under ``sha256``. Raises DamagedError when it is missing, or is not what the ledger names."""
    path = workspace.erasure.findings(sha256)
    found = read_model(path, TypeAdapter(kind))
    if sha256_file(path) != sha256:
        raise DamagedError(f"{path} is not what the ledger names: it was changed")
    return found


def keep(workspace: Workspace, findings: BaseModel) -> str:
    """Write findings; the hex SHA-256 that names them."""
    content = json_bytes(findings.model_dump(mode="json"))
    sha256 = hashlib.sha256(content).hexdigest()
    write_atomic(workspace.erasure.findings(sha256), content, mode=0o600)
    return sha256
