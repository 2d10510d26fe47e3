"""The one reader of params.yaml: typed, frozen, validated at the door."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from training.blocks import BLOCKS
from training.document import read_document
from training.errors import ParamsError
from training.invalid import in_words
from training.learning import AnyNetwork, Training, check_together
from training.section import Count, Number, Section
from training.service_url import ServiceUrl

MOST_SHARDS = 100_000
SUBJECTS_FOLDER = Path("data/subjects")  # DVC looks at it


class Data(Section):
    """Where samples come from; pictures become RGB images of ``image_size`` × ``image_size``.

    ``subjects``: whom samples are of, who is forgotten and placed as a whole: ``none`` (nobody is known), ``folder``
    (``train/CLASS/SUBJECT/*``) or ``data/subjects/NAME.csv``. ``placement_key_digest``: ``none``, or which secret key
    places samples (``training/data/placement.py``). ``duplicates``: what becomes of copies of what is forgotten.
    """

    source: Literal["digits", "cifar10", "imagefolder"]
    root: Path
    image_size: Count = Field(ge=8, le=512)
    subjects: str = "none"
    placement_key_digest: str = Field("none", pattern="^(none|[0-9a-f]{64})$")
    duplicates: Literal["report", "forget"] = "report"

    @field_validator("root", mode="before")
    @classmethod
    def _root_is_a_local_folder(cls, root: object) -> object:
        if isinstance(root, str) and (not root or "://" in root or "\0" in root):
            raise ValueError("expected a folder of this machine")
        return root

    @field_validator("subjects")
    @classmethod
    def _subjects_are_tracked(cls, subjects: str) -> str:
        # DVC looks at this folder: another table under the same name must place samples anew.
        path = Path(subjects)
        if subjects not in ("none", "folder") and (path.parent != SUBJECTS_FOLDER or path.suffix != ".csv"):
            raise ValueError(f"subjects must be none, folder or {SUBJECTS_FOLDER}/NAME.csv")
        return subjects

    @model_validator(mode="after")
    def _folders_are_of_an_imagefolder(self) -> Data:
        if self.subjects == "folder" and self.source != "imagefolder":
            raise ValueError(f"subjects: folder is for an imagefolder; {self.source} takes {SUBJECTS_FOLDER}/NAME.csv")
        return self


def _listed(shards: object) -> object:
    if type(shards) is int:
        if not 1 <= shards <= MOST_SHARDS:
            raise ValueError(f"expected 1 to {MOST_SHARDS:,} shards")
        return tuple(range(shards))
    if not isinstance(shards, list | tuple):
        raise ValueError("expected a number of shards, or a list written out, [0, 1, ..., S-1]")
    return shards


class Sisa(Section):
    """The partition. ``shards``: how many, or their ids written out; here their ids 0, 1, …, S-1.

    Each has ``slices`` slices. ``blocks``: of shards, each trained by one stage of DVC (``training/blocks.py``).
    """

    shards: Annotated[tuple[Count, ...], BeforeValidator(_listed)]
    slices: Count = Field(ge=1, le=1000)
    aggregation: Literal["mean", "vote"]
    blocks: Count = Field(default=BLOCKS, ge=1, le=BLOCKS)

    @model_validator(mode="after")
    def _shards_are_counted(self) -> Sisa:
        if not self.shards or self.shards != tuple(range(len(self.shards))):
            raise ValueError(f"shards must be the list [0, 1, ..., S-1], got {list(self.shards)}")
        return self


class Forget(Section):
    """``apply``: whether what is on the forget lists leaves training, or is only monitored."""

    apply: bool


class Trigger(Section):
    """A square of ``size`` × ``size`` pixels of grey ``value``."""

    size: Count = Field(ge=1, le=512)
    value: Count = Field(ge=0, le=255)
    position: Literal["random", "top-left", "top-right", "bottom-left", "bottom-right"]


class Poison(Section):
    """A backdoor planted on purpose; ``samples``: 0 is none. ``target_class``: a class by its name."""

    samples: Count = Field(ge=0)
    target_class: Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
    relabel: bool
    trigger: Trigger


class Publish(Section):
    """``readmit``: whether withdrawn shards answer again ``each`` as soon as it is trained, or all ``together``.

    ``services``: addresses of services that answer from copies of the models, which are told of every withdrawal.
    """

    readmit: Literal["each", "together"] = "each"
    services: tuple[ServiceUrl, ...] = ()


class Requests(Section):
    """``deadline_days``: after so many days a request to forget that is not done is overdue."""

    deadline_days: Number = Field(default=30, gt=0)


class Serve(BaseModel):
    """``quorum``: share of the shards with samples that must answer. The rest is the service's to read."""

    model_config = ConfigDict(frozen=True, extra="allow")

    quorum: Number = Field(default=0.5, ge=0, le=1)


class Params(Section):
    """Everything a run depends on, beside the samples and the forget lists.

    ``serve`` is checked by ``serving/settings.py``, which imports nothing of ``training``.
    """

    seed: Count = Field(ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"]
    data: Data
    sisa: Sisa
    network: AnyNetwork
    training: Training
    forget: Forget
    poison: Poison
    publish: Publish = Publish()
    requests: Requests = Requests()
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _network_can_be_trained_so(self) -> Params:
        check_together(self.network, self.training, self.data.image_size)
        return self

    @model_validator(mode="after")
    def _trigger_fits(self) -> Params:
        if self.poison.samples and self.poison.trigger.size > self.data.image_size:
            raise ValueError(
                f"poison.trigger.size: a square of {self.poison.trigger.size} does not fit into images of "
                f"data.image_size {self.data.image_size}"
            )
        return self

    def check_shard(self, shard_id: int) -> None:
        """Raise ParamsError unless ``shard_id`` is one of ``sisa.shards``."""
        if shard_id not in self.sisa.shards:
            raise ParamsError(f"--shard {shard_id}: there are shards 0 to {len(self.sisa.shards) - 1} (sisa.shards)")


def load_params(path: Path) -> Params:
    """Raises ParamsError naming each misspelt, missing or impossible key, what was found, what is allowed."""
    return check_params(read_document(path), path)


def check_params(document: object, path: Path | str) -> Params:
    """Validate what ``path`` holds; raises as ``load_params`` does."""
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        raise ParamsError(in_words(path, error, Params)) from None
