"""Heads in closed form: by hand, against scikit-learn, and against leaving each sample out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from training.recipe.head.ridge import best_temperature, cross_entropy, fit


def samples(count: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = random.standard_normal((classes, width))
    return (centres[labels] + random.standard_normal((count, width))).astype(np.float32), labels


def test_two_samples_on_a_line_by_hand() -> None:
    # Features -1 and 1 of classes 0 and 1: centred as they are, mean square 1, Gram 2, λ = .5 · 1 = .5.
    # Weight of class 1: Σ x (y - ½) / (2 + .5) = (½ + ½) / 2.5 = .4; bias ½. Scores at ±1: ½ ± .4.
    head = fit(np.array([[-1.0], [1.0]], np.float32), np.array([0, 1]), 2, l2=0.5)
    slope = head.weight[0, 1] - head.weight[0, 0]
    assert head.weight[0, 0] == pytest.approx(-head.weight[0, 1])
    assert head.bias[0] == pytest.approx(head.bias[1])
    assert slope / head.bias[1] == pytest.approx(0.8 / 0.5)  # both were divided by one temperature


@pytest.mark.parametrize(("count", "width"), [(60, 8), (9, 20)], ids=["primal", "dual"])
def test_weights_are_those_of_ridge_regression(count: int, width: int) -> None:
    features, labels = samples(count, width, 3)
    centred = features - features.mean(axis=0, dtype=np.float64)
    penalty = 0.3 * (centred**2).sum() / count
    theirs = Ridge(alpha=penalty).fit(features.astype(np.float64), np.eye(3)[labels])
    head = fit(features, labels, 3, l2=0.3)
    ours, expected = features @ head.weight + head.bias, theirs.predict(features.astype(np.float64))
    assert ours / ours[0, 0] == pytest.approx(expected / expected[0, 0], rel=1e-4)


@pytest.mark.parametrize(("count", "width"), [(30, 5), (8, 12)], ids=["primal", "dual"])
def test_the_loss_is_that_of_heads_that_did_not_see_the_sample(count: int, width: int) -> None:
    """Each sample left out in turn, with the penalty as it is for all of them, and the temperature of all."""
    features, labels = samples(count, width, 2)
    x, y = features.astype(np.float64), np.eye(2)[labels]
    penalty = 0.3 * ((x - x.mean(axis=0)) ** 2).sum() / count
    left_out = np.array(
        [
            Ridge(alpha=penalty, tol=1e-12).fit(np.delete(x, row, 0), np.delete(y, row, 0)).predict(x[row : row + 1])[0]
            for row in range(count)
        ]
    )
    expected = cross_entropy(left_out / best_temperature(left_out, labels), labels)
    assert fit(features, labels, 2, l2=0.3).loss == pytest.approx(expected, rel=1e-6)


def test_primal_and_dual_agree_where_they_meet() -> None:
    features, labels = samples(12, 12, 3)  # 12 samples of 12 features: dual
    more = np.concatenate([features, features]), np.concatenate([labels, labels])  # 24: primal, the same problem
    one, two = fit(features, labels, 3, l2=0.3), fit(*more, 3, l2=0.6)  # λ is a mean, the Gram matrix a sum
    scores, twice = features @ one.weight + one.bias, features @ two.weight + two.bias
    assert np.argsort(scores) == pytest.approx(np.argsort(twice))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(2, 5), st.integers(0, 9))
def test_a_head_is_a_function_of_its_samples(count: int, width: int, classes: int, seed: int) -> None:
    features, labels = samples(count, width, classes, seed)
    one, two = fit(features, labels, classes, l2=0.5), fit(features.copy(), labels.copy(), classes, l2=0.5)
    assert one.weight.tobytes() == two.weight.tobytes()
    assert one.bias.tobytes() == two.bias.tobytes()
    assert np.isfinite(one.weight).all()
    assert np.isfinite(one.bias).all()


@pytest.mark.parametrize("count", [1, 4])
def test_samples_that_are_all_alike_are_told_by_how_frequent_their_classes_are(count: int) -> None:
    head = fit(np.ones((count, 3), np.float32), np.zeros(count, np.int64), 2, l2=0.5)
    assert not head.weight.any()
    assert head.bias[0] > head.bias[1]


def test_the_temperature_is_the_one_of_least_loss() -> None:
    # Score 1 for the right class in 3 of 4 cases: softmax of 1/T is .75 at T = 1 / ln 3 = .9102.
    scores = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    assert best_temperature(scores, np.zeros(4, np.int64)) == pytest.approx(1 / np.log(3), rel=1e-5)


def test_a_feature_that_is_no_number_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="not a finite number"):
        fit(np.array([[np.nan], [1.0]], np.float32), np.array([0, 1]), 2, l2=0.5)
