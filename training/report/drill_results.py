"""What a drill found, ``reports/drills/NAME.json``: the runner writes it, reports and pages read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from training.errors import DrillError
from training.evaluation.reports import Attack
from training.files import json_bytes
from training.params import Poison
from training.report.cells import Cell, absent, complete, in_words
from training.report.evidence import area

Step = Literal["before", "after", "retrained", "cheated"]
STEPS: tuple[Step, ...] = ("before", "after", "retrained")  # which every table has; the control where it was run
HEADS: Mapping[Step, str] = {
    "before": "before",
    "after": "after",
    "retrained": "retrained from scratch",
    "cheated": "control: did not forget",
}


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


class BothGenerations(BaseModel):
    """What an attacker tells who asks the models from before as well, by the ensemble's mean and by the own shard."""

    ensemble: Attack
    own_shard: Attack


class Line(BaseModel):
    """A line of defence against models that did not forget. ``after``: what it said of the honest deletion.

    ``cheated``: of the control. ``told``: whether it tells the one from the other.
    """

    name: str
    after: str
    cheated: str
    told: bool


class Control(BaseModel):
    """The negative control. ``shards``: those whose models have seen what they were to forget."""

    shards: tuple[int, ...]
    lines: tuple[Line, ...]

    @property
    def holds(self) -> bool:
        """Whether verifying told, and an attack as well: there are then two kinds of evidence, which share nothing."""
        told = [line.name for line in self.lines if line.told]
        return RETRAINING in told and any(name in ATTACKS for name in told)


RETRAINING = "sisa verify"
QUICK = "sisa verify --quick"
ATTACKS: Mapping[str, str] = {
    "attack by the ensemble's loss": "loss_auc",
    "attack by the own shard's confidence": "own_auc",
    "attack by likelihood ratio": "ratio_auc",
}


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
    """``samples``: how many were forgotten, ``hard``: how they were chosen, if not at random or by a name.

    ``both_generations``: None where an earlier version ran the drill, or nothing of the list was in the source.
    """

    drill: Literal["forget"] = "forget"
    samples: int
    hard: str | None = None
    both_generations: BothGenerations | None = None
    control: Control | None = None


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
    """Before, after and retrained from scratch, each with a cell for every row; the control where there is one."""
    nothing = absent("this drill trains no reference from scratch; `sisa drill forget` does")
    taken = result.columns
    steps = (*STEPS, "cheated") if "cheated" in taken else STEPS
    return {step: complete(taken[step].cells) if step in taken else nothing for step in steps}


def sentences_of(result: DrillResult) -> list[str]:
    """What the columns do not say: equality, an attacker who has both generations, the control."""
    said = []
    if result.identical is not None:
        same = f"{result.identical.shards} of {result.identical.of} shards"
        said.append(f"Byte for byte the same after forgetting as from scratch: {same}.")
    if isinstance(result, ForgetResult):
        if result.hard == "memorised":
            said.append(
                "These samples are harder than others: models that never saw them are less sure of them, so attacks by "
                "loss and by confidence stand below 0.5 where all is well. What counts is the training from scratch."
            )
        if result.hard == "near-copies":
            said.append(
                "A near copy of each of these samples stays in training: what an attack finds afterwards is the copy, "
                "as it does in a training from scratch."
            )
        if result.both_generations is not None:
            both = result.both_generations
            said.append(
                "Who kept the models from before, and asks both, recognises what was forgotten by the confidence that "
                f"is lost: AUC {in_words(area(both.ensemble), 'share')} by the mean, "
                f"{in_words(area(both.own_shard), 'share')} by the own shard. No "
                "forgetting takes that away; only deleting the old models does."
            )
        if result.control is not None:
            said.append(control_sentence(result.control))
    return said


def control_sentence(control: Control) -> str:
    told = [line.name for line in control.lines if line.told]
    missed = ", ".join(line.name for line in control.lines if not line.told)
    noticed = f"noticed by {', '.join(told)}" if told else "noticed by nothing"
    return (
        f"The control: {len(control.shards)} of the shards answer with models from before, under keys and in a ledger "
        f"that say otherwise; {noticed}{f', not by {missed}' if missed else ''}."
    )


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
