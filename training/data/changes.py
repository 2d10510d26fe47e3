"""What became of the samples that were trained on, beside what was asked: vanished, renamed, corrected or replaced.

A deletion is asked for. A sample that is only no longer there is forgotten as well, but a disk that is not mounted
looks the same: where that is much, a person has to say so first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from training.errors import SourceError

SHARE = 0.01  # of what was trained on may vanish unasked
SHOWN = 5


@dataclass(frozen=True)
class Trained:
    """What the last shard files hold, whole or not.

    ``labels``: by id the number of its class in ``classes``. ``contents``: by id the digest of the file or array that
    it was made of, where that is known. ``poisoned``: ids whose label was not their own.
    """

    labels: Mapping[str, int]
    contents: Mapping[str, bytes]
    classes: tuple[str, ...] | None = None
    poisoned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Present:
    """What the training split of the source holds, as ``Trained`` has it; ``classes`` are all there are."""

    labels: Mapping[str, int]
    contents: Mapping[str, bytes]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """Ids, sorted. ``before``: how many samples were trained on.

    ``vanished``: no longer in the source, and on no list. ``emptied``: the classes all of whose samples are gone
    from it, some of them vanished. ``renamed``: by the old id the new one of the same content; ``moved``: those of
    them that are in another class now. ``relabelled``: the same id, another class. ``replaced``: the same id, another
    content.
    """

    before: int = 0
    vanished: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def corrected(self) -> tuple[str, ...]:
        """What somebody set right: another class, or another picture under the same id."""
        return tuple(sorted({*self.moved, *self.relabelled, *self.replaced}))

    def sentences(self) -> list[str]:
        """For whoever partitions; none where nothing but what was asked for changed."""
        renamed = tuple(old for old in self.renamed if old not in self.moved)
        told = (
            (self.vanished, "vanished from the source without being listed, and forgotten"),
            (renamed, "renamed in the source, the same pictures"),
            (self.moved, "moved to another class"),
            (self.relabelled, "given another label"),
            (self.replaced, "replaced by another picture of the same id"),
        )
        return [f"{len(ids)} samples {what}: {some(ids)}" for ids, what in told if ids]

    def refuse_loss(self) -> None:
        """Raise SourceError when more than 1% vanished, or a whole class: that may be a disk that is not there."""
        if len(self.vanished) <= SHARE * self.before and not self.emptied:
            return
        share = f"{len(self.vanished) / self.before:.1%} of {self.before}"
        classes = f", with all that is left of {', '.join(map(repr, self.emptied))}" if self.emptied else ""
        raise SourceError(
            f"{len(self.vanished)} samples that were trained on are no longer in the source, and nobody asked to "
            f"forget them ({share}{classes}): {some(self.vanished)}. Nothing was changed. If a disk is missing, "
            "bring it back. If they are to be forgotten, `sisa forget vanished --request NAME` asks for it, as does a "
            "list in forget/ that names them"
        )


def find_changes(before: Trained, now: Present, listed: Collection[str]) -> Changes:
    """What became of ``before``; ``listed``: the ids on the forget lists.

    A picture that comes out otherwise because of the image size or the decoder is no other picture: contents are
    those of the files.
    """
    lost = {sample_id for sample_id in before.labels if sample_id not in now.labels and sample_id not in listed}
    fresh = {
        content: sample_id for sample_id, content in now.contents.items() if sample_id not in before.labels
    }  # of several copies any one will do
    renamed = {old: fresh[before.contents[old]] for old in sorted(lost) if before.contents.get(old) in fresh}
    vanished = lost - renamed.keys()
    stayed = [sample_id for sample_id in before.labels if sample_id in now.labels]
    return Changes(
        before=len(before.labels),
        vanished=tuple(sorted(vanished)),
        emptied=emptied(before, {*now.labels, *renamed}, vanished),
        renamed=renamed,
        moved=tuple(old for old, new in renamed.items() if class_of(old) != class_of(new)),
        relabelled=relabelled(before, now, stayed),
        replaced=tuple(
            sorted(name for name in stayed if before.contents.get(name, now.contents[name]) != now.contents[name])
        ),
    )


def relabelled(before: Trained, now: Present, stayed: Iterable[str]) -> tuple[str, ...]:
    """Those with another label than before; where there are other classes, numbers of labels say nothing."""
    if before.classes != now.classes:
        return ()
    own = (sample_id for sample_id in stayed if sample_id not in before.poisoned)
    return tuple(sorted(sample_id for sample_id in own if before.labels[sample_id] != now.labels[sample_id]))


def emptied(before: Trained, there: Collection[str], vanished: Collection[str]) -> tuple[str, ...]:
    """The classes that lost samples and have none left of those that were trained on; ``there``: ids that are left."""
    left = {label for sample_id, label in before.labels.items() if sample_id in there}
    lost = {before.labels[sample_id]: sample_id for sample_id in vanished if before.labels[sample_id] not in left}
    return tuple(
        sorted(before.classes[label] if before.classes else class_of(sample_id) for label, sample_id in lost.items())
    )


def class_of(sample_id: str) -> str:
    """The class that the id of a picture begins with."""
    return sample_id.split("/", maxsplit=1)[0]


def some(ids: Sequence[str] | Iterable[str]) -> str:
    """The first few, and how many more."""
    ids = list(ids)
    more = [f"and {len(ids) - SHOWN} more"] if len(ids) > SHOWN else []
    return ", ".join([*ids[:SHOWN], *more])
