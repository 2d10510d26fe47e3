import numpy as np
import pytest

from training.evaluation.backdoor import judge_ensemble, judge_trigger
from training.evaluation.metrics import Uncomputable


def test_attack_success_by_hand_leaves_out_pictures_of_the_target_class() -> None:
    # Target 2. Of five pictures two are of class 2 and do not count, though both are "hits".
    # The other three: with the trigger 2, 2, 1 (2 of 3 taken for 2, 1 of 3 still right);
    # without it 0, 2, 1 (1 of 3 taken for 2). Clean accuracy over all five: 0, 1, 2, 2 right, 1 wrong.
    actual = np.array([0, 0, 1, 2, 2])
    clean = np.array([0, 2, 1, 2, 2])
    triggered = np.array([2, 2, 1, 2, 2])
    report = judge_trigger(actual, clean, triggered, target=2)
    assert {name: (value["share"], value["samples"]) for name, value in report.items()} == {
        "attack_success": (pytest.approx(2 / 3), 3),
        "floor": (pytest.approx(1 / 3), 3),
        "recovery": (pytest.approx(1 / 3), 3),
        "clean_accuracy": (pytest.approx(4 / 5), 5),
    }


def test_against_brute_force() -> None:
    random = np.random.default_rng(0)
    actual, clean, triggered = random.integers(0, 4, (3, 200))
    pictures = [row for row in zip(actual, clean, triggered, strict=True) if row[0] != 1]
    report = judge_trigger(actual, clean, triggered, target=1)
    assert report["attack_success"]["share"] == sum(row[2] == 1 for row in pictures) / len(pictures)
    assert report["floor"]["share"] == sum(row[1] == 1 for row in pictures) / len(pictures)
    assert report["recovery"]["share"] == sum(row[2] == row[0] for row in pictures) / len(pictures)


def test_a_model_that_always_says_the_target_has_full_attack_success_and_as_high_a_floor() -> None:
    actual, always = np.arange(4), np.zeros(4, np.int64)
    report = judge_trigger(actual, always, always, target=0)
    assert (report["attack_success"]["share"], report["floor"]["share"]) == (1, 1)
    assert report["attack_success"]["samples"] == 3


def test_pictures_of_the_target_class_alone_support_no_attack_success() -> None:
    with pytest.raises(Uncomputable, match="no sample"):
        judge_trigger(np.array([1, 1]), np.array([1, 1]), np.array([1, 1]), target=1)


def test_the_ensemble_is_judged_by_mean_and_by_vote() -> None:
    # Three shards, two classes, target 1; one picture of class 0 and one of class 1. With the trigger one shard is
    # nearly sure of the target and two lean to class 0: the mean, (0.6 + 0.6 + 0.05) / 3 < 1/2 for class 0, falls for
    # it, the vote, 2 to 1 for class 0, does not. Without the trigger all are right.
    actual = np.array([0, 1])
    clean = np.array([[[0.9, 0.1], [0.1, 0.9]]] * 3, np.float32)
    triggered = clean.copy()
    triggered[:, 0] = [[0.6, 0.4], [0.6, 0.4], [0.05, 0.95]]
    report = judge_ensemble(actual, clean, triggered, target=1)
    shares = {name: {key: value["share"] for key, value in judged.items()} for name, judged in report.items()}
    assert shares == {
        "mean": {"attack_success": 1, "floor": 0, "recovery": 0, "clean_accuracy": 1},
        "vote": {"attack_success": 0, "floor": 0, "recovery": 1, "clean_accuracy": 1},
    }
