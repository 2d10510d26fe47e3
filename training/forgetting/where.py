"""`sisa where`: which shard and slice a sample is in, what forgetting it would cost, and whether it answers now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from training.chain.plan import load_plan
from training.data.duplicates import How, match_pictures
from training.data.placement import subject_of
from training.data.prints import PRINTS, near
from training.data.store import load_shard, readable_shards
from training.errors import DamagedError, RequestError
from training.forgetting.known import Known, look_up
from training.publish.asked import asked_for
from training.publish.opening import published_now
from training.workspace import Workspace


class Cost(BaseModel):
    """What forgetting a sample trains again."""

    model_config = ConfigDict(frozen=True)

    slices: int = Field(description="how many slices")
    sample_epochs: int = Field(description="samples, each counted as often as training sees it")
    share: float = Field(description="of a full training of all shards")


class Place(BaseModel):
    """Where a sample is. ``shard``, ``slice``: of the shard files; None where it is not trained on.

    ``found``: how, as ``id``, ``subject``, ``same picture`` or ``near picture``. ``sample``: of a forgotten one whose
    id is not known any more, the request that it was of.
    """

    model_config = ConfigDict(frozen=True)

    sample: str
    found: str
    shard: int | None
    slice: int | None
    forgotten: bool = Field(description="whether it is suppressed: it was forgotten, and not reinstated")
    answers: bool = Field(description="whether a model that saw it is published and answers")
    cost: Cost | None = Field(description="of forgetting it alone; null where it is not trained on")


def where(workspace: Workspace, text: str) -> list[Place]:
    """``text``: an id, ``subject:NAME``, or the path of a picture, which is found by its pixels, whatever its name.

    Raises RequestError when nothing is known of it, SourceError when the picture cannot be decoded.
    """
    known = look_up(workspace)
    subject = subject_of(text)
    if subject is not None:
        places = [place(known, name, "subject") for name in known.of_subject.get(subject, ())]
    elif text in known.trained or known.memory.suppresses(text) or known.models_that_saw(text):
        places = [place(known, text, "id")]
    elif Path(text).is_file():
        places = [place(known, name, how) for name, how in like_picture(workspace, Path(text))]
        places += [place(known, name, how, forgotten=True) for name, how in like_forgotten(known, Path(text))]
    else:
        places = []
    if not places:
        raise RequestError(
            f"nothing is known of {text!r}: it is no id that was ever trained on here, no subject, and no picture that "
            "looks like one of them"
        )
    return places


def like_picture(workspace: Workspace, path: Path) -> Iterator[tuple[str, str]]:
    """Ids of the samples, in training and test, whose picture is the one at ``path``, or looks like it."""
    from training.data.imagefolder import read_picture

    prints = read_picture(path, 8).prints
    shards = list(readable_shards(workspace.shards_folder))
    with suppress(DamagedError):
        shards.append(load_shard(workspace.test_file))
    for shard in shards:
        ids, theirs = shard.ids, shard.prints
        same = (theirs["upright"] == np.frombuffer(prints.upright, np.uint8)).all(axis=1)
        alike = set(near(np.frombuffer(prints.look, np.uint8)[None], theirs["look"])[:, 1].tolist())
        prefix = "test " if shard.path == workspace.test_file else ""
        for index, sample_id in enumerate(ids):
            if same[index] or index in alike:
                yield f"{prefix}{sample_id}", "same picture" if same[index] else "near picture"


def like_forgotten(known: Known, path: Path) -> Iterator[tuple[str, str]]:
    """The forgotten samples whose picture is the one at ``path``, or looks like it: by id where a request names it."""
    from training.data.imagefolder import read_picture

    prints = np.array([tuple(np.frombuffer(each, np.uint8) for each in read_picture(path, 8).prints)], PRINTS)
    memory = known.memory
    named = {memory.secret.of_id(each): each for ids in asked_for(known.workspace).values() for each in ids}
    for match in match_pictures(memory.secret, memory.samples, [0], prints):
        unnamed = f"a sample that {memory.requests()[match.of]} asked to forget"
        name = named.get(match.of, unnamed)
        if name not in known.trained:  # else it was found there
            yield name, "near picture" if match.how is How.LOOK else "same picture"


def place(known: Known, sample_id: str, found: str, *, forgotten: bool = False) -> Place:
    shard_id, slice_id = known.trained.get(sample_id, (None, None))
    manifest = published_now(known.workspace)
    answering = set() if manifest is None else {shard.sha256 for shard in manifest.voters}
    return Place(
        sample=sample_id,
        found=found,
        shard=shard_id,
        slice=slice_id,
        forgotten=forgotten or known.memory.suppresses(sample_id),
        answers=bool(answering & known.models_that_saw(sample_id)),
        cost=None if shard_id is None or slice_id is None else cost(known.workspace, shard_id, slice_id),
    )


def cost(workspace: Workspace, shard_id: int, slice_id: int) -> Cost | None:
    """What training again from a slice on costs, by the plans that are there; None where they are not."""
    try:
        plans = [load_plan(workspace.plan_file(each)) for each in workspace.read_params().sisa.shards]
    except DamagedError:
        return None
    slices = range(slice_id, len(plans[shard_id].keys))
    spent, full = plans[shard_id].sample_epochs(slices), sum(plan.full_sample_epochs for plan in plans)
    return Cost(slices=len(slices), sample_epochs=spent, share=spent / full)


def total(places: Sequence[Place]) -> int:
    """What forgetting all of them in one batch costs: each shard from the first slice on that one of them is in."""
    first: dict[int, int] = {}
    for each in places:
        if each.shard is not None and each.cost is not None:
            first[each.shard] = max(first.get(each.shard, 0), each.cost.sample_epochs)
    return sum(first.values())
