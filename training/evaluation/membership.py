"""Stage membership: whether the models' answers tell what they were trained on.

Two sets are attacked, each against the test set, which was never trained on: the samples that the
forget lists name (before they are forgotten they should be told, afterwards not) and the retained
ones (how much the models give away at all).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import choose, count_votes, mean_probabilities
from training import stage
from training.erasure.forget_list import read_forget_lists
from training.evaluation.attacks import (
    auc,
    auc_interval,
    cross_entropies,
    likelihood_ratio,
    reference_attack,
    roc,
    scaled_confidences,
    tpr_at_fpr,
)
from training.evaluation.intervals import share_of
from training.evaluation.metrics import Floats, Ints, Uncomputable, computable
from training.evaluation.predictions import load_served, predict
from training.files import csv_bytes, json_bytes, read_json, write_atomic
from training.params import Params, load_params
from training.partition import locate
from training.paths import MEMBERSHIP_REPORT, PARTITION_FILE, ROC_REPORT, TEST_FILE, shard_file
from training.placement import assign_slots
from training.poison import plant
from training.shards import load_shard
from training.sources import open_source

LARGEST_SET = 10_000  # training samples that are attacked; the others would add minutes, not certainty
RATES = (0.01, 0.001)  # false positive rates at which attacks are compared


@dataclass(frozen=True)
class Judged:
    """Some samples and what the models answer for them.

    ``labels``: (N,). ``shards``: (N,) the shard that holds each, or would hold it. ``by_shard``:
    (S, N, C) probabilities, in the order of ``served``, the ids of the shards that have a model.
    """

    labels: Ints
    shards: Ints
    by_shard: NDArray[np.float32]
    served: tuple[int, ...]

    def confidences(self) -> tuple[Floats, Ints]:
        """(S, M) logit-scaled confidences and (M,) row of the own shard; a sample whose shard abstains is left out."""
        inside = np.isin(self.shards, self.served)
        rows = np.array([self.served.index(shard) for shard in self.shards[inside]], np.int64)
        return scaled_confidences(self.by_shard[:, inside], self.labels[inside]), rows


def scores(members: Judged, unseen: Judged) -> dict[str, Callable[[], tuple[Floats, Floats]]]:
    """By each attack the members' scores and the unseen samples'."""
    sides = (members, unseen)
    means = [mean_probabilities(side.by_shard) for side in sides]

    def by_mean(score: Callable[[NDArray[np.float32], Ints], Floats], sign: int) -> tuple[Floats, Floats]:
        ours, theirs = (sign * score(mean, side.labels) for mean, side in zip(means, sides, strict=True))
        return ours, theirs

    def by_own_shard() -> tuple[Floats, Floats]:
        ours, theirs = (
            confidences[rows, np.arange(len(rows))] for confidences, rows in (side.confidences() for side in sides)
        )
        return ours, theirs

    def by_ratio() -> tuple[Floats, Floats]:
        # All at once: the variance that they share must be one and the same for both sides.
        (ours, our_rows), (theirs, their_rows) = (side.confidences() for side in sides)
        ratios = likelihood_ratio(np.concatenate([ours, theirs], axis=1), np.concatenate([our_rows, their_rows]))
        return ratios[: len(our_rows)], ratios[len(our_rows) :]

    return {
        "ensemble_loss": lambda: by_mean(cross_entropies, -1),
        "ensemble_confidence": lambda: by_mean(scaled_confidences, 1),
        "own_shard_confidence": by_own_shard,
        "likelihood_ratio": by_ratio,
    }


def main() -> None:
    params = load_params()
    ensemble = load_served()
    served = ensemble.manifest.shard_ids

    def judge(images: NDArray[np.uint8], labels: Ints, shards: Ints) -> Judged:
        return Judged(labels, shards, predict(ensemble, images), served)

    test = load_shard(TEST_FILE)
    # No shard holds a test sample: any of them, by hash of its id, stands for the one that would.
    unseen = judge(test.images, test.labels, slots_of([f"test {name}" for name in test.ids], params))
    listed = listed_samples(params)
    sets = {"training": judge(*retained_samples(params))}
    if len(listed[1]):
        sets["forget"] = judge(*listed)

    partition = read_json(PARTITION_FILE)
    lists = partition["forgotten" if params.forget.apply else "watched"]
    report: dict[str, Any] = {
        "list": {"applied": params.forget.apply, **lists, "pictures": len(listed[1])},
        "unseen": len(unseen.labels),
    }
    rows: list[tuple[object, ...]] = []
    for name in ("forget", "training"):
        if name in sets:
            report[name] = attack(sets[name], unseen, params.seed)
            rows += roc_rows(name, sets[name], unseen)
        else:
            report[name] = {"absent": "the forget lists name no sample whose picture is still in the source"}
    write_atomic(MEMBERSHIP_REPORT, json_bytes(report))
    write_atomic(ROC_REPORT, csv_bytes(("attack", "fpr", "tpr"), rows))
    for name in sets:
        print(f"{name} against unseen: AUC {report[name]['ensemble_loss']['auc']:.3f} by the ensemble's loss")


def listed_samples(params: Params) -> tuple[NDArray[np.uint8], Ints, Ints]:
    """Pictures, labels and shards of what the forget lists name, as they are or were trained on.

    From the source: nothing of them is kept in ``data/shards`` once they are forgotten.
    """
    source = open_source(params.data)
    samples, _ = plant(source.train, source.classes, params.poison, params.seed)
    found, _ = locate(read_forget_lists(), source)
    chosen = sorted(found)
    pictures = [samples.decode(index) for index in chosen]
    size = params.data.image_size
    images = np.array(pictures, np.uint8).reshape(-1, size, size, 3)
    return images, samples.labels[chosen], slots_of([samples.ids[index] for index in chosen], params)


def retained_samples(params: Params) -> tuple[NDArray[np.uint8], Ints, Ints]:
    """Pictures, labels and shards of what is trained on; of more than ``LARGEST_SET`` those of lowest hash."""
    parts = [load_shard(shard_file(shard_id)) for shard_id in params.sisa.shards]
    ids = np.concatenate([part.ids for part in parts])
    by_hash = sorted(range(len(ids)), key=lambda index: hashlib.sha256(f"attacked {ids[index]}".encode()).digest())
    chosen = sorted(by_hash[:LARGEST_SET])
    images, labels = (np.concatenate([getattr(part, name) for part in parts])[chosen] for name in ("images", "labels"))
    shards = np.repeat(params.sisa.shards, [len(part.ids) for part in parts])[chosen]
    return images, labels, shards


def slots_of(ids: Sequence[str], params: Params) -> Ints:
    """(N,) the shard that each id is placed in."""
    slots = assign_slots(ids, len(params.sisa.shards), params.sisa.slices, params.seed)
    return np.array([shard_id for shard_id, _ in slots], np.int64)


def attack(members: Judged, unseen: Judged, seed: int) -> dict[str, Any]:
    """Every attack on one set of samples, all against the same unseen ones."""
    mean, votes = mean_probabilities(members.by_shard), count_votes(members.by_shard)
    report: dict[str, Any] = {
        "samples": len(members.labels),
        "accuracy": {
            "mean": share_of(choose(mean, votes, "mean") == members.labels),
            "vote": share_of(choose(mean, votes, "vote") == members.labels),
        },
    }
    by_attack = scores(members, unseen)
    report |= computable({"reference": lambda: reference_attack(*by_attack["ensemble_loss"](), seed)})
    for name, both in by_attack.items():
        try:
            report[name] = judge_scores(*both(), seed)
        except Uncomputable as error:
            report[name] = {"absent": str(error)}
    report["shards"] = [by_one_shard(members, unseen, shard_id, seed) for shard_id in members.served]
    return report


def by_one_shard(members: Judged, unseen: Judged, shard_id: int, seed: int) -> dict[str, Any]:
    """A shard's own loss, on the samples that are or would be its own, against all unseen ones."""
    row, mine = members.served.index(shard_id), members.shards == shard_id
    ours = -cross_entropies(members.by_shard[row, mine], members.labels[mine])
    theirs = -cross_entropies(unseen.by_shard[row], unseen.labels)
    numbers = {
        "auc": lambda: auc(ours, theirs),
        "interval": lambda: auc_interval(ours, theirs, seed),
        "reference": lambda: reference_attack(ours, theirs, seed),
    }
    return {"shard": shard_id, "samples": int(mine.sum()), **computable(numbers)}


def judge_scores(members: Floats, others: Floats, seed: int) -> dict[str, Any]:
    """What one score tells: area with interval, and what is recognised at low false positive rates."""
    numbers: dict[str, Callable[[], Any]] = {
        "auc": lambda: auc(members, others),
        "interval": lambda: auc_interval(members, others, seed),
        **{f"tpr_at_fpr_{rate:g}": partial(tpr_at_fpr, members, others, rate) for rate in RATES},
    }
    return computable(numbers)


def roc_rows(name: str, members: Judged, unseen: Judged) -> list[tuple[object, ...]]:
    """Points of the curves, evenly spread on a log axis."""
    rows: list[tuple[object, ...]] = []
    rates = np.unique(np.floor(np.geomspace(1, len(unseen.labels), 60))) / len(unseen.labels)
    for attack_name, both in scores(members, unseen).items():
        if attack_name == "ensemble_confidence":
            continue  # ranks samples as the loss does, but for ties by rounding
        try:
            curve = roc(*both(), rates)
        except Uncomputable:
            continue  # the reason is in the report
        label = f"{name}: {attack_name.replace('_', ' ')}"
        rows += [(label, f"{x:.6f}", f"{y:.6f}") for x, y in zip(rates, curve, strict=True)]
    return rows


if __name__ == "__main__":
    stage.run(main)
