import numpy as np
import pytest

from training.evaluation.membership import (
    Answers,
    Score,
    attack,
    ensemble_confidence,
    ensemble_loss,
    judge_scores,
    likelihood_ratios,
    own_shard_confidence,
    roc_curves,
)
from training.evaluation.reports import Absent, Attack
from training.evaluation.sets import attacked

every_score = pytest.mark.parametrize(
    "score", [ensemble_loss, ensemble_confidence, own_shard_confidence, likelihood_ratios]
)


def answers(samples: int, seed: int, shards: tuple[int, ...] = (0, 1, 2)) -> Answers:
    """Random answers of the shards 0, 1 and 2 for ``samples`` samples of ``shards``."""
    random = np.random.default_rng(seed)
    return Answers(
        labels=random.integers(0, 4, samples),
        shards=random.choice(shards, samples),
        by_shard=random.dirichlet(np.ones(4), (3, samples)).astype(np.float32),
        served=(0, 1, 2),
    )


@every_score
def test_a_samples_score_is_the_same_on_either_side(score: Score) -> None:
    few, many = answers(5, 0), answers(300, 1)
    forth, back = score(few, many), score(many, few)
    assert forth[0] == pytest.approx(back[1])
    assert forth[1] == pytest.approx(back[0])


@every_score
def test_every_score_is_higher_for_what_looks_trained_on(score: Score) -> None:
    # Trained on: its own shard, 1, is sure of class 0; never seen: all shards are equally unsure.
    sure = np.full((3, 20, 2), 0.5, np.float32)
    sure[1] = [0.99, 0.01]
    random = np.random.default_rng(0).uniform(0.4, 0.6, (3, 20))
    unsure = np.stack([random, 1 - random], axis=2).astype(np.float32)
    labels, own = np.zeros(20, np.int64), np.ones(20, np.int64)
    ours, theirs = score(Answers(labels, own, sure, (0, 1, 2)), Answers(labels, own, unsure, (0, 1, 2)))
    assert ours.min() > theirs.max()


def test_a_sample_of_a_shard_that_abstains_has_no_score_by_its_own_shard() -> None:
    members, non_members = answers(50, 0, shards=(0, 5)), answers(40, 1)
    inside = int((members.shards == 0).sum())
    for score, scored in (
        (ensemble_loss, 50),
        (ensemble_confidence, 50),
        (own_shard_confidence, inside),
        (likelihood_ratios, inside),
    ):
        ours, theirs = score(members, non_members)
        assert (len(ours), len(theirs)) == (scored, 40)


def test_samples_that_look_alike_are_not_told_apart() -> None:
    report = attack(answers(400, 0), answers(400, 1), seed=0)
    for judged in (
        report.ensemble_loss,
        report.ensemble_confidence,
        report.own_shard_confidence,
        report.likelihood_ratio,
    ):
        assert isinstance(judged, Attack)
        assert not isinstance(judged.interval, Absent)
        low, high = judged.interval
        assert low < 0.5 < high
    assert [shard.shard for shard in report.shards] == [0, 1, 2]
    assert sum(shard.samples for shard in report.shards) == 400
    assert not isinstance(report.reference, Absent)
    assert report.reference.samples_a_side == 400
    assert report.accuracy.mean.samples == 400


def test_what_the_samples_do_not_support_is_absent_with_the_reason_in_its_place() -> None:
    report = judge_scores(np.arange(19.0), np.arange(2000.0), seed=0).model_dump(mode="json", by_alias=True)
    assert report["interval"] == {
        "absent": "needs 20 samples on either side, there are 19 and 2,000: resampling so few says little of what "
        "other samples would have given"
    }
    assert report["tpr_at_fpr_0.001"] == {
        "absent": "needs 10,000 samples never trained on, so that ten may be mistaken; there are 2,000"
    }
    assert report["auc"] == pytest.approx(9.5 / 2000)  # 0 … 18 against 0 … 1999: each is above itself, half counted
    assert report["tpr_at_fpr_0.01"]["share"] == 0
    few = attack(answers(4, 0), answers(100, 1), seed=0)
    assert few.reference == Absent(absent="5-fold cross-validation needs 5 samples a side, there are 4 and 100")


def test_a_curve_that_cannot_be_drawn_is_left_out_and_the_others_are_drawn() -> None:
    nowhere = answers(30, 0, shards=(5,))
    points = roc_curves(nowhere, answers(40, 1))
    assert {name for name, _, _ in points} == {"ensemble loss"}
    assert points[-1][1:] == (1.0, 1.0)  # who takes everything for trained on recognises everything


def test_all_retained_samples_are_attacked_while_they_are_few() -> None:
    assert attacked({0: ["a", "b"], 1: [], 2: ["c"]}, limit=3) == {0: [0, 1], 2: [0]}


def test_which_of_many_retained_samples_are_attacked_depends_on_their_ids_alone() -> None:
    names = [str(number) for number in range(100)]
    halves = {0: names[:50], 1: names[50:]}
    turned = {0: names[::-1]}
    chosen = {halves[shard][row] for shard, rows in attacked(halves, 30).items() for row in rows}
    assert len(chosen) == 30
    assert {turned[0][row] for row in attacked(turned, 30)[0]} == chosen
    without = {0: [name for name in names if name not in sorted(chosen)[:1]]}
    kept = {without[0][row] for row in attacked(without, 30)[0]}
    assert len(chosen - kept) == 1
    for rows in attacked(halves, 30).values():
        assert rows == sorted(rows)
