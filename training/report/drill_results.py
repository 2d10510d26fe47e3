"""What a drill found, ``reports/drills/NAME.json``: the runner writes it, reports and pages read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from training.errors import DrillError
from training.files import json_bytes
from training.params import Poison
from training.report.cells import Cell, absent, complete

Step = Literal["before", "after", "retrained"]
STEPS: tuple[Step, ...] = ("before", "after", "retrained")


class Recipe(BaseModel):
    """The sections of the parameters that make a drill's numbers, as they were written."""

    data: dict[str, Any]
    sisa: dict[str, Any]
    network: dict[str, Any]
    training: dict[str, Any]
    poison: Poison


class Column(BaseModel):
    """The evidence of one step. Its cells are shown; the rest is kept for whoever wants to know more."""

    model_config = ConfigDict(extra="allow")

    cells: dict[str, Cell]


class Identical(BaseModel):
    """How many shards' models are the same file, byte for byte, after forgetting as from scratch."""

    shards: int
    of: int


class Result(BaseModel):
    """What all drills have in common. ``environment``: versions and the machine."""

    name: str
    title: str
    command: str
    seed: int
    recipe: Recipe
    environment: dict[str, str]
    columns: dict[Step, Column]
    identical: Identical | None = None

    def to_bytes(self) -> bytes:
        """The JSON file."""
        return json_bytes(self.model_dump(mode="json", exclude_none=True))


class ForgetResult(Result):
    """``samples``: how many were forgotten."""

    drill: Literal["forget"] = "forget"
    samples: int


class BackdoorResult(Result):
    """``found``: share of the poisoned samples that was found and forgotten."""

    drill: Literal["backdoor"] = "backdoor"
    found: float = Field(ge=0, le=1)


DrillResult = ForgetResult | BackdoorResult
RESULT: TypeAdapter[DrillResult] = TypeAdapter(Annotated[DrillResult, Field(discriminator="drill")])


def read_drills(folder: Path) -> list[DrillResult]:
    """Every drill's result in a folder, by name of file; raises DrillError naming a file that is not one."""
    return [read_drill(path) for path in sorted(folder.glob("*.json"))]


def read_drill(path: Path) -> DrillResult:
    """Raises DrillError when the file is not the result of a drill."""
    try:
        return RESULT.validate_json(path.read_bytes())
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in error.errors()
        )
        raise DrillError(
            f"{path} is not the result of a drill ({problems}); restore it (`git checkout {path}`) or move it away"
        ) from error


def columns_of(result: DrillResult) -> dict[Step, dict[str, Cell]]:
    """Before, after and retrained from scratch, each with a cell for every row."""
    nothing = absent("this drill trains no reference from scratch; `sisa drill forget` does")
    taken = result.columns
    return {step: complete(taken[step].cells) if step in taken else nothing for step in STEPS}


def setting(result: DrillResult) -> str:
    """What was trained, in a few words: ``digits, resnet9, 5 shards × 5 slices × 4 epochs``."""
    recipe = result.recipe
    epochs = recipe.training["epochs_per_slice"]
    return (
        f"{recipe.data['source']}, {recipe.network['name']}, {shard_count(recipe.sisa['shards'])} shards × "
        f"{recipe.sisa['slices']} slices × {epochs} {'epoch' if epochs == 1 else 'epochs'}"
    )


def shard_count(shards: int | Sequence[int]) -> int:
    """Drills keep parameters as they were written: a number, or a list."""
    return shards if isinstance(shards, int) else len(shards)
