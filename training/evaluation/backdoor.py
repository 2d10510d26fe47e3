"""Backdoor: how often a trigger turns a picture into the attacker's class.

Functions from arrays to numbers; shares come with their 95% Wilson interval. Letters: N pictures.
"""

from __future__ import annotations

from typing import Any

from training.evaluation.intervals import share_of
from training.evaluation.metrics import Ints


def judge_trigger(actual: Ints, clean: Ints, triggered: Ints, target: int) -> dict[str, Any]:
    """What the trigger does to pictures that are *not* of the target class; those of it would count as hits anyway.

    ``actual``: (N,) classes, ``clean``, ``triggered``: (N,) predictions without and with the
    trigger. Raises Uncomputable when every picture is of the target class.

    - ``attack_success``: with the trigger, taken for the target class (Gu et al., "BadNets", 2017)
    - ``floor``: the same pictures without it, taken for the target class: what chance mistakes make
    - ``recovery``: with the trigger, still given their true class
    - ``clean_accuracy``: all pictures without the trigger
    """
    other = actual != target
    return {
        "attack_success": share_of(triggered[other] == target),
        "floor": share_of(clean[other] == target),
        "recovery": share_of(triggered[other] == actual[other]),
        "clean_accuracy": share_of(clean == actual),
    }
