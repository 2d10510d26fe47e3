import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from training.evaluation.attacks import cross_entropies, likelihood_ratio, scaled_confidences
from training.evaluation.reference import cross_validated_accuracy, fit_logistic, reference_attack, stratified_folds
from training.evaluation.reports import Reference, Uncomputable
from training.evaluation.roc import FEWEST, auc, auc_interval, roc, tpr_at_fpr

Floats = NDArray[np.float64]
few_scores = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(lambda scores: np.array(scores, np.float64))


def test_losses_are_taken_of_the_probabilities_once() -> None:
    # −ln 0.8 = 0.2231, −ln 0.5 = 0.6931; after a second softmax they would be 0.4375 and 0.6931.
    probabilities = np.array([[0.8, 0.2], [0.5, 0.5]], np.float32)
    assert cross_entropies(probabilities, np.array([0, 1])) == pytest.approx([0.2231436, 0.6931472], abs=1e-6)


def test_losses_of_every_shard_at_once() -> None:
    by_shard = np.array([[[0.8, 0.2]], [[0.5, 0.5]]], np.float32)
    assert cross_entropies(by_shard, np.array([1])).shape == (2, 1)
    assert cross_entropies(by_shard, np.array([1]))[:, 0] == pytest.approx([1.6094379, 0.6931472], abs=1e-6)


def test_a_probability_of_zero_has_the_largest_loss_that_float32_can_tell() -> None:
    loss = cross_entropies(np.array([[0.0, 1.0]], np.float32), np.array([0]))
    assert loss == pytest.approx(126 * np.log(2))  # the smallest normal float32 is 2^−126


def test_scaled_confidence_by_hand() -> None:
    # ln(0.8 / (0.1 + 0.1)) = ln 4; ln(0.25 / 0.75) = −ln 3.
    probabilities = np.array([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25]], np.float32)
    assert scaled_confidences(probabilities, np.array([0, 1])) == pytest.approx([np.log(4), -np.log(3)], abs=1e-6)


def test_scaled_confidence_keeps_apart_what_rounds_to_probability_one() -> None:
    probabilities = np.array([[1, 1e-9], [1, 1e-12]], np.float32)
    first, second = scaled_confidences(probabilities, np.array([0, 0]))
    assert second - first == pytest.approx(np.log(1000), abs=1e-5)


def test_auc_by_hand() -> None:
    # Pairs (member, non-member): 3>2, 3>1, 1<2, 1=1: (1 + 1 + 0 + ½) / 4.
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == 0.625


@given(few_scores, few_scores)
def test_auc_against_every_pair(members: Floats, non_members: Floats) -> None:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(members, non_members)]
    assert auc(members, non_members) == pytest.approx(np.mean(pairs))


@given(few_scores, few_scores, st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_the_roc_is_the_best_that_any_threshold_reaches(members: Floats, non_members: Floats, fpr: float) -> None:
    thresholds = [-1.0, *members, *non_members]
    best = max((members > t).mean() for t in thresholds if (non_members > t).mean() <= fpr)
    assert roc(members, non_members, np.array([fpr]))[0] == pytest.approx(best)


def test_tpr_at_fpr_by_hand() -> None:
    # 1,000 non-members score 0 … 999: ten (990 … 999) may be mistaken, so what is above 989 is recognised.
    report = tpr_at_fpr(np.array([989.0, 989.5, 995.0, 2000.0]), np.arange(1000.0), 0.01)
    assert report.share == 0.75


def test_tpr_at_a_rate_that_the_samples_do_not_support_is_absent_with_the_reason() -> None:
    with pytest.raises(Uncomputable, match=r"needs 10,000 samples .* there are 9,999"):
        tpr_at_fpr(np.ones(5), np.zeros(9999), 0.001)


def test_the_bootstrap_interval_agrees_with_drawing_samples_anew() -> None:
    random = np.random.default_rng(0)
    members, non_members = random.normal(0.5, 1, 150), random.normal(0, 1, 100)
    brute = [auc(random.choice(members, 150), random.choice(non_members, 100)) for _ in range(3000)]
    assert auc_interval(members, non_members, seed=1, resamples=3000) == pytest.approx(
        np.quantile(brute, [0.025, 0.975]), abs=0.01
    )


@pytest.mark.heavy
@pytest.mark.parametrize(("members", "non_members"), [(FEWEST, 355), (FEWEST, FEWEST), (150, 100)])
def test_of_95_percent_intervals_about_95_in_100_hold_the_truth(members: int, non_members: int) -> None:
    # Scores of one kind: the truth is 0.5. Of 400 intervals 380 ± 9 would hold it (two standard deviations of a
    # binomial); few samples cost some of that, a single one would leave two in three without it.
    random = np.random.default_rng(0)
    held = 0
    for trial in range(400):
        low, high = auc_interval(
            random.normal(size=members), random.normal(size=non_members), seed=trial, resamples=200
        )
        held += low <= 0.5 <= high
    assert 0.90 <= held / 400 <= 0.98


def test_an_interval_of_too_few_samples_is_absent_with_the_reason() -> None:
    with pytest.raises(Uncomputable, match="needs 20 samples on either side, there are 19 and 355"):
        auc_interval(np.arange(19.0), np.arange(355.0), seed=0)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    members, non_members = np.arange(20.0), np.arange(5.0, 25.0)
    assert auc_interval(members, non_members, seed=0) == auc_interval(members, non_members, seed=0)
    assert auc_interval(members, non_members, seed=0) != auc_interval(members, non_members, seed=1)


def test_the_reference_attack_tells_apart_what_a_threshold_separates() -> None:
    report = reference_attack(np.linspace(0, 1, 40), np.linspace(9, 10, 60), seed=0)
    assert report == Reference(accuracy=1.0, spread=0.0, draws=10, samples_a_side=40)


def test_the_reference_attack_by_hand() -> None:
    # Members' losses are 0 thrice in four, else 10; the non-members' the other way round: the best
    # threshold, 5, is right three times in four, on every fold of 20 + 20.
    members, non_members = np.tile([0.0, 0.0, 0.0, 10.0], 25), np.tile([10.0, 10.0, 10.0, 0.0], 25)
    assert reference_attack(members, non_members, seed=0).accuracy == pytest.approx(0.75)


def test_the_reference_attack_guesses_when_both_sides_are_alike() -> None:
    random = np.random.default_rng(0)
    report = reference_attack(random.normal(size=2000), random.normal(size=2000), seed=0)
    assert report.samples_a_side == 500
    assert abs(report.accuracy - 0.5) < 0.04  # draws share the samples; one draw's sd is 0.016
    assert 0 < report.spread < 0.04


def test_the_reference_attack_needs_a_sample_a_fold() -> None:
    with pytest.raises(Uncomputable, match="5-fold cross-validation needs 5 samples a side, there are 4 and 100"):
        reference_attack(np.zeros(4), np.ones(100), seed=0)


@pytest.mark.parametrize("side", [5, 7, 63])
def test_folds_are_those_of_scikit_learn(side: int) -> None:
    member = np.repeat([1, 0], side)
    folds = stratified_folds(side, seed=3).ravel()
    splits = StratifiedKFold(5, shuffle=True, random_state=3).split(member, member)
    for number, (_, tested) in enumerate(splits):
        assert np.flatnonzero(folds == number).tolist() == tested.tolist()


@pytest.mark.parametrize("gap", [0.0, 0.3, 30.0])
def test_the_logistic_regression_is_that_of_scikit_learn(gap: float) -> None:
    random = np.random.default_rng(0)
    scores, positive = random.exponential(size=300), np.arange(300) % 2 == 0
    scores[positive] += gap
    theirs = LogisticRegression().fit(scores[:, None], positive)
    assert fit_logistic(scores, positive) == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=1e-6)


def test_the_reference_attack_comes_to_the_same_accuracy_as_scikit_learn() -> None:
    random = np.random.default_rng(0)
    members, non_members = -random.exponential(size=(2, 97)) * [[1.0], [1.5]]
    folds = StratifiedKFold(5, shuffle=True, random_state=8)
    scores, member = np.concatenate([members, non_members])[:, None], np.repeat([1, 0], 97)
    theirs = cross_val_score(LogisticRegression(), scores, member, cv=folds, scoring="accuracy").mean()
    assert cross_validated_accuracy(members, non_members, stratified_folds(97, seed=8)) == theirs
    assert 0.5 < theirs < 1


def test_likelihood_ratio_by_hand() -> None:
    # Sample 0 is held by shard 0: the others say 1 and 3, mean 2, variance 2. Sample 1 by shard 2: the others say
    # 0 and 0, variance 0. One variance for all: 1. Ratios (5 − 2) and (1 − 0), each over √(1 · (1 + ½)).
    confidences = np.array([[5.0, 0.0], [1.0, 0.0], [3.0, 1.0]])
    assert likelihood_ratio(confidences, np.array([0, 2])) == pytest.approx([3 / 1.5**0.5, 1 / 1.5**0.5])


def test_likelihood_ratio_against_brute_force() -> None:
    random = np.random.default_rng(0)
    confidences, held_by = random.normal(size=(5, 30)), random.integers(0, 5, 30)
    outs = [[confidences[s, n] for s in range(5) if s != held_by[n]] for n in range(30)]
    variance = np.mean([np.var(out, ddof=1) for out in outs])
    expected = [(confidences[held_by[n], n] - np.mean(outs[n])) / np.sqrt(variance * 1.25) for n in range(30)]
    assert likelihood_ratio(confidences, held_by) == pytest.approx(expected)


def test_likelihood_ratio_of_samples_never_seen_is_nearly_standard_normal() -> None:
    random = np.random.default_rng(0)
    ratios = likelihood_ratio(random.normal(3, 2, (5, 4000)), random.integers(0, 5, 4000))
    assert (ratios.mean(), ratios.std()) == pytest.approx((0, 1), abs=0.05)


def test_likelihood_ratio_needs_three_shards() -> None:
    with pytest.raises(Uncomputable, match="at least two shards that never held a sample; there are 2 in all"):
        likelihood_ratio(np.zeros((2, 4)), np.zeros(4, np.int64))


class Memorisers:
    """Five shards, each a tree that learns its samples' random labels by heart: nothing to generalise."""

    def __init__(self, forgotten: int) -> None:
        random = np.random.default_rng(0)
        self.features, self.labels = random.normal(size=(1200, 4)), random.integers(0, 10, 1200)
        self.held_by = random.integers(0, 5, 1200)
        trained = np.arange(1200) < 1000  # the last 200 are never seen
        trained[:forgotten] = False
        shards = []
        for shard_id in range(5):
            mine = trained & (self.held_by == shard_id)
            tree = DecisionTreeClassifier(random_state=0).fit(self.features[mine], self.labels[mine])
            # Smoothed as a network's softmax would: a tree's 0 and 1 have no finite logit.
            shards.append(0.9 * tree.predict_proba(self.features) + 0.01)
        self.by_shard = np.stack(shards).astype(np.float32)

    def attack(self, part: slice) -> dict[str, float]:
        """How well the samples of ``part`` are told from the unseen ones, by each score."""
        by_shard = cross_entropies(self.by_shard, self.labels)
        scores = {
            "own shard": -by_shard[self.held_by, np.arange(1200)],
            "mean": -cross_entropies(self.by_shard.mean(axis=0), self.labels),
            "ratio": likelihood_ratio(scaled_confidences(self.by_shard, self.labels), self.held_by),
        }
        areas = {name: auc(score[part], score[1000:]) for name, score in scores.items()}
        reference = reference_attack(scores["own shard"][part], scores["own shard"][1000:], seed=0)
        return {**areas, "reference accuracy": reference.accuracy}


def test_a_model_that_memorises_is_caught() -> None:
    caught = Memorisers(forgotten=0).attack(slice(200, 1000))
    assert min(caught["own shard"], caught["ratio"], caught["reference accuracy"]) > 0.9
    assert caught["mean"] > 0.75  # four shards that never held the sample have a say as well


def test_an_ensemble_that_did_not_forget_is_caught_by_the_forget_list_and_one_that_did_is_not() -> None:
    kept, forgot = Memorisers(forgotten=0).attack(slice(200)), Memorisers(forgotten=200).attack(slice(200))
    assert min(kept["own shard"], kept["ratio"], kept["reference accuracy"]) > 0.9
    assert kept["mean"] > 0.75
    # 200 against 200: the AUC of chance has a standard deviation of 0.029.
    assert forgot == pytest.approx(dict.fromkeys(forgot, 0.5), abs=0.09)


def test_scores_with_random_labels_give_one_half_within_the_interval() -> None:
    random = np.random.default_rng(4)
    scores, member = random.normal(size=1000), random.random(1000) < 0.5
    low, high = auc_interval(scores[member], scores[~member], seed=0)
    assert low < 0.5 < high
    assert high - low < 0.1
