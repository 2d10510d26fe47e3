"""Stage backdoor: how often the drill's trigger turns a picture into the attacker's class.

Functions from arrays to numbers; shares come with their 95% Wilson interval. Letters: N pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import AGGREGATIONS, choose, count_votes, mean_probabilities
from training import stage
from training.evaluation.intervals import share_of
from training.evaluation.metrics import Ints, Uncomputable
from training.evaluation.predictions import load_served, predict
from training.files import json_bytes, read_json, write_atomic
from training.params import load_params
from training.paths import BACKDOOR_REPORT, PARTITION_FILE, TEST_FILE
from training.poison import stamp_all, target_class
from training.shards import load_shard


def main() -> None:
    params = load_params()
    poison = params.poison
    if poison.samples == 0:
        reason = "poison.samples is 0: no trigger was planted, so there is none to try"
        write_atomic(BACKDOOR_REPORT, json_bytes({"absent": reason}))
        print(reason)
        return
    ensemble = load_served()
    test = load_shard(TEST_FILE)
    target = target_class(ensemble.manifest.classes, poison)
    clean = predict(ensemble, test.images)
    triggered = predict(ensemble, stamp_all(test.images, test.ids.tolist(), poison.trigger, params.seed))
    report = {
        "target_class": poison.target_class,
        "relabel": poison.relabel,
        "trigger": poison.trigger.model_dump(),
        "poisoned": read_json(PARTITION_FILE)["poisoned"],
        **judge_ensemble(test.labels, clean, triggered, target),
        "shards": [
            {"shard": shard_id, **judge_or_explain(test.labels, clean[row].argmax(1), triggered[row].argmax(1), target)}
            for row, shard_id in enumerate(ensemble.manifest.shard_ids)
        ],
    }
    write_atomic(BACKDOOR_REPORT, json_bytes(report))
    for aggregation in AGGREGATIONS:
        if "attack_success" in report[aggregation]:
            success, floor = (report[aggregation][name]["share"] for name in ("attack_success", "floor"))
            print(f"{aggregation}: the trigger succeeds on {success:.1%}, without it {floor:.1%}")


def judge_ensemble(
    actual: Ints, clean: NDArray[np.float32], triggered: NDArray[np.float32], target: int
) -> dict[str, Any]:
    """By mean and by vote; ``clean``, ``triggered``: (S, N, C) probabilities of every shard."""
    answers = [(mean_probabilities(by_shard), count_votes(by_shard)) for by_shard in (clean, triggered)]
    report: dict[str, Any] = {}
    for aggregation in AGGREGATIONS:
        without, under = (choose(mean, votes, aggregation) for mean, votes in answers)
        report[aggregation] = judge_or_explain(actual, without, under, target)
    return report


def judge_or_explain(actual: Ints, clean: Ints, triggered: Ints, target: int) -> dict[str, Any]:
    """``judge_trigger``, or ``absent`` with the reason."""
    try:
        return judge_trigger(actual, clean, triggered, target)
    except Uncomputable as error:
        return {"absent": str(error)}


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


if __name__ == "__main__":
    stage.run(main)
