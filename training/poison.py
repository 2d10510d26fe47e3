"""A backdoor planted on purpose, to see it forgotten: which pictures are stamped, where, and how.

A trigger is a square of one grey on uint8 pixels, so it goes through normalisation and augmentation
as any part of a picture does. Which pictures, and where on them, is a hash of id and seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.code import code_digest
from training.params import Poison, Trigger
from training.sources import Picture, Samples
from training.stage import StageError


def plant(samples: Samples, classes: Sequence[str], poison: Poison, seed: int) -> tuple[Samples, list[int]]:
    """The samples with the trigger on some of them, and the positions of those.

    Forgotten samples must still be among ``samples``: the choice is made before anything is
    forgotten, so that forgetting a poisoned sample poisons no other in its place. Raising
    ``poison.samples`` adds pictures and exchanges none. Raises StageError when the target class does
    not exist or too few pictures can be poisoned.
    """
    if poison.samples == 0:
        return samples, []
    target = target_class(classes, poison)
    chosen = choose(samples, target, poison, seed)
    code = code_digest(Path(__file__).read_text(encoding="utf-8"))
    labels, fingerprints = samples.labels.copy(), list(samples.fingerprints)
    for index in chosen:
        labels[index] = target
        # Not the clean picture's: partition takes pixels over from what it decoded before.
        how = f"{poison.trigger.model_dump_json()}\0{seed}\0{code}"
        mark = f"{samples.fingerprints[index]}\0{how}\0{samples.ids[index]}"
        fingerprints[index] = hashlib.sha256(mark.encode()).hexdigest()
    stamped = frozenset(chosen)

    def decode(index: int) -> Picture:
        picture = samples.decode(index)
        return stamp(picture, poison.trigger, samples.ids[index], seed) if index in stamped else picture

    return replace(samples, labels=labels, fingerprints=tuple(fingerprints), decode=decode), chosen


def target_class(classes: Sequence[str], poison: Poison) -> int:
    """Number of the target class; raises StageError when there is none of that name."""
    if poison.target_class not in classes:
        raise StageError(
            f"poison.target_class: there is no class {poison.target_class!r}; the classes are {', '.join(classes)}"
        )
    return classes.index(poison.target_class)


def choose(samples: Samples, target: int, poison: Poison, seed: int) -> list[int]:
    """Positions of the pictures to stamp, rising: those of lowest hash that are (not) of the target class."""
    # Relabelled: pictures of other classes. Not relabelled: pictures of the target class itself.
    eligible = np.flatnonzero((samples.labels != target) == poison.relabel).tolist()
    if poison.samples > len(eligible):
        which = f"not of class {poison.target_class}" if poison.relabel else f"of class {poison.target_class}"
        raise StageError(
            f"poison.samples: {poison.samples} pictures are to be stamped, only {len(eligible)} are {which}"
        )
    return sorted(sorted(eligible, key=lambda index: _hash(samples.ids[index], seed, "chosen"))[: poison.samples])


def stamp(picture: Picture, trigger: Trigger, sample_id: str, seed: int) -> Picture:
    """A copy of an (H, W, 3) uint8 picture with the trigger on it; ``random`` places go by hash of id and seed.

    Raises ValueError when the pixels are no uint8: after normalisation the same value is no trigger.
    """
    if picture.dtype != np.uint8:
        raise ValueError(f"a trigger is stamped on uint8 pixels, before they are normalised; found {picture.dtype}")
    row, column = _place(trigger, picture.shape[0], picture.shape[1], sample_id, seed)
    stamped = picture.copy()
    stamped[row : row + trigger.size, column : column + trigger.size] = trigger.value
    return stamped


def stamp_all(images: NDArray[np.uint8], ids: Sequence[str], trigger: Trigger, seed: int) -> NDArray[np.uint8]:
    """Every one of (N, H, W, 3) pictures with the trigger on it."""
    return np.stack([stamp(image, trigger, sample_id, seed) for image, sample_id in zip(images, ids, strict=True)])


def _place(trigger: Trigger, height: int, width: int, sample_id: str, seed: int) -> tuple[int, int]:
    """Row and column of the trigger's upper left pixel."""
    rows, columns = height - trigger.size, width - trigger.size  # the last ones where it fits
    match trigger.position:
        case "random":
            return _hash(sample_id, seed, "row") % (rows + 1), _hash(sample_id, seed, "column") % (columns + 1)
        case "top-left":
            return 0, 0
        case "top-right":
            return 0, columns
        case "bottom-left":
            return rows, 0
        case "bottom-right":
            return rows, columns


def _hash(sample_id: str, seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0poison {purpose}\0{sample_id}".encode()).digest()[:8])
