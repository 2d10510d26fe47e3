import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.evaluation.backdoor import judge_ensemble, judge_trigger
from training.evaluation.reports import Absent, Share, TriggerEffect, read_backdoor

REPOSITORY = Path(__file__).parents[1]


def shares(effect: TriggerEffect) -> dict[str, float]:
    """The four shares, none of which is absent."""
    found = {}
    for name, value in dict(effect).items():
        assert isinstance(value, Share)
        found[name] = value.share
    return found


def test_attack_success_by_hand_leaves_out_pictures_of_the_target_class() -> None:
    # Target 2. Of five pictures two are of class 2 and do not count, though both are "hits".
    # The other three: with the trigger 2, 2, 1 (2 of 3 taken for 2, 1 of 3 still right);
    # without it 0, 2, 1 (1 of 3 taken for 2). Clean accuracy over all five: 0, 1, 2, 2 right, 1 wrong.
    actual = np.array([0, 0, 1, 2, 2])
    clean = np.array([0, 2, 1, 2, 2])
    triggered = np.array([2, 2, 1, 2, 2])
    effect = judge_trigger(actual, clean, triggered, target=2)
    assert shares(effect) == pytest.approx(
        {"attack_success": 2 / 3, "baseline": 1 / 3, "recovery": 1 / 3, "clean_accuracy": 4 / 5}
    )
    assert [value.samples for value in dict(effect).values()] == [3, 3, 3, 5]


def test_against_brute_force() -> None:
    random = np.random.default_rng(0)
    actual, clean, triggered = random.integers(0, 4, (3, 200))
    pictures = [row for row in zip(actual, clean, triggered, strict=True) if row[0] != 1]
    found = shares(judge_trigger(actual, clean, triggered, target=1))
    assert found["attack_success"] == sum(row[2] == 1 for row in pictures) / len(pictures)
    assert found["baseline"] == sum(row[1] == 1 for row in pictures) / len(pictures)
    assert found["recovery"] == sum(row[2] == row[0] for row in pictures) / len(pictures)


def test_a_model_that_always_says_the_target_has_full_attack_success_and_as_high_a_baseline() -> None:
    actual, always = np.arange(4), np.zeros(4, np.int64)
    effect = judge_trigger(actual, always, always, target=0)
    assert (shares(effect)["attack_success"], shares(effect)["baseline"]) == (1, 1)
    assert isinstance(effect.attack_success, Share)
    assert effect.attack_success.samples == 3


def test_of_pictures_of_the_target_class_alone_only_the_clean_accuracy_is_known() -> None:
    effect = judge_trigger(np.array([1, 1]), np.array([1, 0]), np.array([1, 1]), target=1)
    reason = Absent(absent="there are no samples to take a share of")
    assert (effect.attack_success, effect.baseline, effect.recovery) == (reason, reason, reason)
    assert effect.clean_accuracy.share == 0.5


def test_the_ensemble_is_judged_by_mean_and_by_vote() -> None:
    # Three shards, two classes, target 1; one picture of class 0 and one of class 1. With the trigger one shard is
    # nearly sure of the target and two lean to class 0: the mean, (0.6 + 0.6 + 0.05) / 3 < 1/2 for class 0, falls for
    # it, the vote, 2 to 1 for class 0, does not. Without the trigger all are right.
    actual = np.array([0, 1])
    clean = np.array([[[0.9, 0.1], [0.1, 0.9]]] * 3, np.float32)
    triggered = clean.copy()
    triggered[:, 0] = [[0.6, 0.4], [0.6, 0.4], [0.05, 0.95]]
    mean, vote = (shares(judge_ensemble(actual, clean, triggered, 1, aggregation)) for aggregation in ("mean", "vote"))
    assert mean == {"attack_success": 1, "baseline": 0, "recovery": 0, "clean_accuracy": 1}
    assert vote == {"attack_success": 0, "baseline": 0, "recovery": 1, "clean_accuracy": 1}


NOTHING_PLANTED = """
import json, sys
from pathlib import Path
from training.stages.backdoor import backdoor
from training.workspace import Workspace
backdoor(Workspace(Path(sys.argv[1])))
print(json.dumps(sorted(sys.modules)))
"""


def test_where_nothing_was_planted_the_stage_says_so_without_loading_what_tries_a_trigger(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "profiles/digits.yaml").read_bytes())
    command = [sys.executable, "-c", NOTHING_PLANTED, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    reason, modules = done.stdout.splitlines()
    assert read_backdoor(tmp_path / "reports/backdoor.json") == Absent(absent=reason)
    assert reason == "poison.samples is 0: no trigger was planted, so there is none to try"
    assert not {"numpy", "onnxruntime", "scipy", "sklearn", "torch"} & set(json.loads(modules))
