"""A backdoor planted on purpose, to see it forgotten: which images are stamped, where, and how.

A trigger is a square of one grey on uint8 pixels, so it goes through normalisation and augmentation
as any part of an image does. Which images, and where on them, is decided by a hash of id and seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.source import Samples
from training.data.store import Decoded, Image
from training.errors import ParamsError
from training.params import Poison, Trigger
from training.recipe.common.keyed_hash import keyed_hash, keyed_number
from training.syntax import code_digest


def plant(samples: Samples, classes: Sequence[str], poison: Poison, seed: int) -> tuple[Samples, list[int]]:
    """The samples with the trigger on some of them, and the positions of those.

    Forgotten samples must still be among ``samples``: the choice is made before anything is
    forgotten, so that forgetting a poisoned sample poisons no other in its place. Raising
    ``poison.samples`` adds samples and exchanges none. Raises ParamsError when the target class does
    not exist or too few samples can be poisoned.
    """
    if poison.samples == 0:
        return samples, []
    target = target_class(classes, poison)
    chosen = choose(samples, target, poison, seed)
    code = code_digest(Path(__file__).read_text(encoding="utf-8"))
    labels, fingerprints = samples.labels.copy(), list(samples.fingerprints)
    for index in chosen:
        labels[index] = target
        # Not the clean image's: partition takes pixels over from what it decoded before.
        how = f"{poison.trigger.model_dump_json()}\0{seed}\0{code}"
        mark = f"{samples.fingerprints[index].hex()}\0{how}\0{samples.ids[index]}"
        fingerprints[index] = hashlib.sha256(mark.encode()).digest()
    stamped = frozenset(chosen)

    def decode(index: int) -> Decoded:
        image, prints = samples.decode(index)  # the prints stay those of the picture in the source
        return Decoded(stamp(image, poison.trigger, samples.ids[index], seed) if index in stamped else image, prints)

    return replace(samples, labels=labels, fingerprints=tuple(fingerprints), decode=decode), chosen


def target_class(classes: Sequence[str], poison: Poison) -> int:
    """Number of the target class; raises ParamsError when there is none of that name."""
    if poison.target_class not in classes:
        raise ParamsError(
            f"poison.target_class: there is no class {poison.target_class!r}; the classes are {', '.join(classes)}"
        )
    return classes.index(poison.target_class)


def choose(samples: Samples, target: int, poison: Poison, seed: int) -> list[int]:
    """Positions of the samples to stamp, rising: those of lowest hash that are (not) of the target class."""
    # Relabelled: samples of other classes. Not relabelled: samples of the target class itself.
    eligible = np.flatnonzero((samples.labels != target) == poison.relabel).tolist()
    if poison.samples > len(eligible):
        which = f"not of class {poison.target_class}" if poison.relabel else f"of class {poison.target_class}"
        raise ParamsError(
            f"poison.samples: {poison.samples} samples are to be stamped, only {len(eligible)} are {which}"
        )
    return sorted(sorted(eligible, key=lambda index: keyed_hash(seed, "poison", samples.ids[index]))[: poison.samples])


def stamp(image: Image, trigger: Trigger, sample_id: str, seed: int) -> Image:
    """A copy of an (H, W, 3) uint8 image with the trigger on it; ``random`` places go by hash of id and seed.

    Raises ValueError when the pixels are not uint8: after normalisation the same value is not a trigger.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"a trigger is stamped on uint8 pixels, before they are normalised; found {image.dtype}")
    row, column = place(trigger, image.shape[0], image.shape[1], sample_id, seed)
    stamped = image.copy()
    stamped[row : row + trigger.size, column : column + trigger.size] = trigger.value
    return stamped


def stamp_all(images: NDArray[np.uint8], ids: Sequence[str], trigger: Trigger, seed: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) images, each with the trigger on it."""
    return np.stack([stamp(image, trigger, sample_id, seed) for image, sample_id in zip(images, ids, strict=True)])


def place(trigger: Trigger, height: int, width: int, sample_id: str, seed: int) -> tuple[int, int]:
    """Row and column of the trigger's upper left pixel."""
    rows, columns = height - trigger.size, width - trigger.size  # the last ones where it fits
    match trigger.position:
        case "random":
            return (
                keyed_number(seed, "poison row", sample_id, rows + 1),
                keyed_number(seed, "poison column", sample_id, columns + 1),
            )
        case "top-left":
            return 0, 0
        case "top-right":
            return 0, columns
        case "bottom-left":
            return rows, 0
        case "bottom-right":
            return rows, columns
