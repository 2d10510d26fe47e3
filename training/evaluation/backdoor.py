"""How often a trigger turns a image into the attacker's class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import Aggregation, choose, count_votes, mean_probabilities
from training.evaluation.intervals import share_of
from training.evaluation.reports import TriggerEffect, or_absent
from training.evaluation.roc import Ints


def judge_ensemble(
    actual: Ints, clean: NDArray[np.float32], triggered: NDArray[np.float32], target: int, aggregation: Aggregation
) -> TriggerEffect:
    """``judge_trigger`` of one aggregation; ``clean``, ``triggered``: (S, N, C) probabilities of every shard."""
    without, under = (
        choose(mean_probabilities(by_shard), count_votes(by_shard), aggregation) for by_shard in (clean, triggered)
    )
    return judge_trigger(actual, without, under, target)


def judge_trigger(actual: Ints, clean: Ints, triggered: Ints, target: int) -> TriggerEffect:
    """What the trigger does to images that are *not* of the target class; those of it would count as hits anyway.

    ``actual``: (N,) classes, ``clean``, ``triggered``: (N,) predictions without and with the
    trigger. A number is absent where every image is of the target class.

    - ``attack_success``: with the trigger, taken for the target class (Gu et al., "BadNets", 2017)
    - ``baseline``: the same images without it, taken for the target class: what chance mistakes make
    - ``recovery``: with the trigger, still given their true class
    - ``clean_accuracy``: all images without the trigger
    """
    counted = actual != target
    return TriggerEffect(
        attack_success=or_absent(lambda: share_of(triggered[counted] == target)),
        baseline=or_absent(lambda: share_of(clean[counted] == target)),
        recovery=or_absent(lambda: share_of(triggered[counted] == actual[counted])),
        clean_accuracy=share_of(clean == actual),
    )
