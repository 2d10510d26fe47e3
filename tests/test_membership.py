import numpy as np
import pytest

from training.evaluation.membership import Judged, attack, judge_scores, scores


def judged(samples: int, seed: int, shards: tuple[int, ...] = (0, 1, 2)) -> Judged:
    """Random answers of the shards 0, 1 and 2 for ``samples`` samples of ``shards``."""
    random = np.random.default_rng(seed)
    return Judged(
        labels=random.integers(0, 4, samples),
        shards=random.choice(shards, samples),
        by_shard=random.dirichlet(np.ones(4), (3, samples)).astype(np.float32),
        served=(0, 1, 2),
    )


def test_a_samples_score_is_the_same_on_either_side() -> None:
    few, many = judged(5, 0), judged(300, 1)
    forth, back = scores(few, many), scores(many, few)
    for name in forth:
        assert forth[name]()[0] == pytest.approx(back[name]()[1])
        assert forth[name]()[1] == pytest.approx(back[name]()[0])


def test_every_score_is_higher_for_what_looks_trained_on() -> None:
    # Trained on: its own shard, 1, is sure of class 0; never seen: all shards are equally unsure.
    sure = np.full((3, 20, 2), 0.5, np.float32)
    sure[1] = [0.99, 0.01]
    random = np.random.default_rng(0).uniform(0.4, 0.6, (3, 20))
    unsure = np.stack([random, 1 - random], axis=2).astype(np.float32)
    labels, own = np.zeros(20, np.int64), np.ones(20, np.int64)
    both = scores(Judged(labels, own, sure, (0, 1, 2)), Judged(labels, own, unsure, (0, 1, 2)))
    for score in both.values():
        ours, theirs = score()
        assert ours.min() > theirs.max()


def test_a_sample_of_a_shard_that_abstains_has_no_score_by_its_own_shard() -> None:
    members = judged(50, 0, shards=(0, 5))
    inside = int((members.shards == 0).sum())
    both = scores(members, judged(40, 1))
    lengths = {name: tuple(map(len, score())) for name, score in both.items()}
    assert lengths == {
        "ensemble_loss": (50, 40),
        "ensemble_confidence": (50, 40),
        "own_shard_confidence": (inside, 40),
        "likelihood_ratio": (inside, 40),
    }


def test_samples_that_look_alike_are_not_told_apart() -> None:
    report = attack(judged(400, 0), judged(400, 1), seed=0)
    for name in ("ensemble_loss", "ensemble_confidence", "own_shard_confidence", "likelihood_ratio"):
        low, high = report[name]["interval"]
        assert low < 0.5 < high
    assert [shard["shard"] for shard in report["shards"]] == [0, 1, 2]
    assert sum(shard["samples"] for shard in report["shards"]) == 400
    assert report["reference"]["samples_a_side"] == 400
    assert report["accuracy"]["mean"]["samples"] == 400


def test_what_the_samples_do_not_support_is_absent_with_the_reason() -> None:
    report = judge_scores(np.arange(19.0), np.arange(2000.0), seed=0)
    assert set(report) == {"auc", "tpr_at_fpr_0.01", "absent"}
    assert report["absent"] == {
        "interval": "needs 20 samples on either side, there are 19 and 2,000: drawing so few anew says little of what "
        "others would have given",
        "tpr_at_fpr_0.001": "needs 10,000 samples never trained on, so that ten may be mistaken; there are 2,000",
    }
    report = attack(judged(4, 0), judged(100, 1), seed=0)
    assert report["absent"] == {"reference": "5 folds need 5 samples a side, there are 4 and 100"}
