import numpy as np
import pytest

from training.evaluation.voting import accuracy_by_shard_count, agreement, robust_accuracy


def test_robust_accuracy_by_hand() -> None:
    # Right with robustness 2, right with 0, wrong with 2: 2/3, 1/3, 1/3, and with 3 of 5 poisoned 0.
    votes = np.array([[5, 0], [3, 2], [5, 0]])
    rows = robust_accuracy(np.array([0, 0, 1]), np.array([0, 0, 0]), votes)
    assert rows == [(0, pytest.approx(2 / 3)), (1, pytest.approx(1 / 3)), (2, pytest.approx(1 / 3)), (3, 0)]


def test_agreement_by_hand() -> None:
    votes = np.array([[3, 0], [3, 0], [1, 2]])
    assert agreement(np.array([0, 1, 1]), np.array([0, 0, 1]), votes) == [(2, 1, 1.0), (3, 2, 0.5)]


def test_accuracy_by_shard_count_by_hand() -> None:
    # Truth 0, 0. Shard 0 is right twice, shard 1 once, shard 2 never; two of them, by mean of p(0):
    # 0+1: .8 .55 → both right; 0+2: .55 .55 → both; 1+2: .45 .2 → none. All: .6 .433 → one.
    right = np.array([[0.9, 0.9], [0.7, 0.2], [0.2, 0.2]], np.float32)
    by_shard = np.stack([right, 1 - right], axis=2)
    rows = accuracy_by_shard_count(by_shard, np.array([0, 0]), "mean", seed=0)
    assert rows == [
        (1, pytest.approx(0.5), 0.0, 1.0),
        (2, pytest.approx(2 / 3), 0.0, 1.0),
        (3, 0.5, 0.5, 0.5),
    ]


def test_with_many_shards_some_choices_are_drawn_by_the_seed() -> None:
    by_shard = np.random.default_rng(0).dirichlet([1, 1], (12, 40)).astype(np.float32)
    actual = np.zeros(40, np.int64)
    rows = accuracy_by_shard_count(by_shard, actual, "vote", seed=1)
    assert [row[0] for row in rows] == list(range(1, 13))
    assert rows == accuracy_by_shard_count(by_shard, actual, "vote", seed=1)
    assert rows != accuracy_by_shard_count(by_shard, actual, "vote", seed=2)
