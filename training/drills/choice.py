"""What a drill is about: which parameters it runs on, and which samples it forgets.

Samples are drawn by a hash of seed and id, so the same seed draws the same ones anywhere, and a larger
number draws more of them and exchanges none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.data.deal import Partition, deal
from training.data.placement import SUBJECT
from training.data.requests import read_asked
from training.data.source import Source, open_source
from training.drills.drill import Drill
from training.errors import DrillError
from training.params import Params, check_params
from training.publish.known import was_sample
from training.recipe.common.keyed_hash import keyed_hash
from training.workspace import Workspace


@dataclass(frozen=True)
class Chosen:
    """What a drill forgets: a number of samples, chosen by ``how``, or all of a class or of a subject."""

    samples: int | None = None
    how: Literal["random", "memorised", "near-copies"] = "random"
    class_name: str | None = None
    subject: str | None = None


TITLES = {
    "random": "Forgetting {} random samples",
    "memorised": "Forgetting the {} most memorised samples",
    "near-copies": "Forgetting {} samples of which near copies stay",
}


def forget_drill(
    project: Workspace,
    chosen: Chosen,
    *,
    seed: int | None,
    name: str,
    command: str,
    include_forgotten: bool,
    cheat: bool = False,
) -> Drill:
    """What is ``chosen`` is forgotten, and compared with what never had it.

    ``seed`` None: that of the parameters. ``include_forgotten``: train also on what the project has
    forgotten and still has in its source. ``cheat``: compare with models that did not forget, too. Raises DrillError
    when that is not allowed, when there is no such class or subject, or when too few samples would be left.
    """
    params = changed(project.read_params(), seed=seed)
    source = open_source(params.data, project.source_folder(params), project.subjects_file(params))
    dealt = deal_all(project, params, source, include_forgotten)
    title, samples, ids = what(dealt, chosen, params.seed)
    if samples >= len(dealt.samples.ids):
        raise DrillError(f"{samples} samples: there are {len(dealt.samples.ids)} to train on, and some must stay")
    return Drill(
        name=name,
        kind="forget",
        title=title,
        command=command,
        params=params,
        sample_ids=ids,
        steps=("before", "after", "retrained", *(("cheated",) if cheat else ())),
        about={"samples": samples},
        hard=None if chosen.how == "random" else chosen.how,
    )


def what(dealt: Partition, chosen: Chosen, seed: int) -> tuple[str, int, tuple[str, ...]]:
    """Title, number of samples, and forget list; that is empty where models are needed to choose."""
    samples = dealt.samples
    if chosen.class_name is not None:
        if chosen.class_name not in dealt.source.classes:
            raise DrillError(
                f"--class {chosen.class_name!r}: there is no such class; the classes are "
                f"{', '.join(dealt.source.classes)}"
            )
        label = dealt.source.classes.index(chosen.class_name)
        ids = tuple(each for each, of in zip(samples.ids, samples.labels.tolist(), strict=True) if of == label)
        return f"Forgetting the class {chosen.class_name}, {len(ids)} samples", len(ids), ids
    if chosen.subject is not None:
        count = list(samples.subjects).count(chosen.subject)
        if not count:
            raise DrillError(f"--subject {chosen.subject!r}: no sample is of this subject (data.subjects)")
        return f"Forgetting the subject {chosen.subject}, {count} samples", count, (f"{SUBJECT}{chosen.subject}",)
    if chosen.samples is None:
        raise DrillError("say what to forget: --samples N, --class NAME or --subject NAME")
    title = TITLES[chosen.how].format(chosen.samples)
    if chosen.how != "random":
        return title, chosen.samples, ()
    return title, chosen.samples, drawn(samples.ids, seed, "drill forgotten", chosen.samples)


def backdoor_drill(
    project: Workspace,
    *,
    found: float,
    poison: Mapping[str, object],
    trigger: Mapping[str, object],
    seed: int | None,
    name: str,
    command: str,
    include_forgotten: bool,
) -> Drill:
    """A backdoor is planted; the share ``found``, in [0, 1], of the poisoned samples is forgotten.

    ``poison`` and ``trigger``: values in place of those of params.yaml, None for the same. Without a
    number of samples in either 1% are poisoned. Raises DrillError as ``forget_drill`` does and when
    no sample would be found, ParamsError when a value cannot be used.
    """
    params = changed(project.read_params(), seed=seed)
    source = open_source(params.data, project.source_folder(params), project.subjects_file(params))
    section = given(params.poison.model_dump(mode="json"), **poison)
    section["trigger"] = given(section["trigger"], **trigger)
    section["samples"] = section["samples"] or max(1, len(source.train.ids) // 100)
    params = changed(params, poison=section)
    dealt = deal_all(project, params, source, include_forgotten)
    poisoned = [dealt.samples.ids[index] for index in dealt.poisoned]
    sample_ids = drawn(poisoned, params.seed, "drill found", round(found * len(poisoned)))
    if not sample_ids:
        raise DrillError(f"--found {found}: of {len(poisoned)} poisoned samples none would be found")
    return Drill(
        name=name,
        kind="backdoor",
        title=f"Backdoor: {len(poisoned)} samples poisoned, {len(sample_ids)} of them found and forgotten",
        command=command,
        params=params,
        sample_ids=sample_ids,
        steps=("before", "after"),
        about={"found": found},
    )


def deal_all(project: Workspace, params: Params, source: Source, include_forgotten: bool) -> Partition:
    """The partition of all samples of the source: a drill forgets its own list alone.

    Raises DrillError when the project's lists name samples that are still in the source, unless they
    may be trained on once more.
    """
    monitored = params.model_copy(update={"forget": params.forget.model_copy(update={"apply": False})})
    lists = read_asked(project)
    dealt = deal(monitored, lists, source, was_sample(project, lists))
    if dealt.listed and params.forget.apply and not include_forgotten:
        instead = "take their pictures out of the source, or " if params.data.source == "imagefolder" else ""
        raise DrillError(
            f"the forget lists name {len(dealt.listed)} samples that are still in the source: a drill would train on "
            f"them again, in .drills/; {instead}allow it with --include-forgotten"
        )
    return dealt


def drawn(ids: Iterable[str], seed: int, purpose: str, count: int) -> tuple[str, ...]:
    """``count`` of the ids, by their hash."""
    return tuple(sorted(ids, key=lambda sample_id: keyed_hash(seed, purpose, sample_id))[:count])


def given(section: Mapping[str, Any], **options: object) -> dict[str, Any]:
    """A section of the parameters with the options that were given in place of its values."""
    return {**section, **{name: option for name, option in options.items() if option is not None}}


def changed(params: Params, **options: object) -> Params:
    """The parameters with other values, checked as those of params.yaml are; None changes nothing."""
    document = given(params.model_dump(mode="json"), **options)
    return check_params(document, "with the options of this command, params.yaml")
