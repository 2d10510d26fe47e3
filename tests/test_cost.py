"""Expected costs: closed forms, checked by hand and against what random deletions really touch."""

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.forgetting import cost
from training.forgetting.window import parse_window


def share(shards: int, slices: int, hit: cost.Hit) -> float:
    """Of a full training, on 100 samples a slice and 3 epochs."""
    sizes = cost.even(100 * shards * slices, shards, slices)
    return cost.expected(sizes, 3, hit).sample_epochs / cost.full(sizes, 3)


def test_a_full_training_sees_each_slice_as_often_as_slices_follow_it() -> None:
    # 10, then 10 + 20, then 10 + 20 + 30 samples, twice each; a shard without samples costs nothing.
    assert cost.full([[10, 20, 30], [0, 0, 0]], 2) == 2 * (10 + 30 + 60)


def test_one_deletion_by_hand() -> None:
    # Two shards of two slices of 10 samples. In slice 0 (half of the time) it costs 10 + 20, in slice 1 only 20.
    found = cost.expected([[10, 10], [10, 10]], 1, cost.batch(1))
    assert found == cost.Expected(shards=1, slices=1.5, sample_epochs=25)


def test_one_deletion_costs_14_percent_and_twenty_91_with_5_shards_of_10_slices() -> None:
    assert share(5, 10, cost.batch(1)) == pytest.approx(0.14)
    assert share(5, 10, cost.batch(20)) == pytest.approx(0.91, abs=0.005)


def test_slices_alone_are_worth_at_most_one_and_a_half() -> None:
    assert share(1, 1, cost.batch(1)) == 1
    assert share(1, 1000, cost.batch(1)) == pytest.approx(1 / 1.5, abs=0.001)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 100))
def test_evenly_spread_samples_cost_what_the_formula_says(shards: int, slices: int, deletions: int) -> None:
    formula = (
        2
        / (slices * (slices + 1))
        * sum(i * (1 - (1 - i / (slices * shards)) ** deletions) for i in range(1, slices + 1))
    )
    assert share(shards, slices, cost.batch(deletions)) == pytest.approx(formula)


DRAWS = 20_000  # of deletions, each time
SIZES = st.integers(1, 4).flatmap(
    lambda slices: st.lists(
        st.lists(st.integers(0, 30), min_size=slices, max_size=slices), min_size=1, max_size=4
    ).filter(lambda sizes: sum(map(sum, sizes)) > 0)
)


def touched(sizes: list[list[int]], deletions: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """(N, 3): shards, slices and sample-epochs of retraining after ``deletions[n]`` random ones, with E = 1."""
    counts = np.array(sizes)
    hit = generator.multinomial(deletions, counts.ravel() / counts.sum()).reshape(-1, *counts.shape) > 0
    stale = np.logical_or.accumulate(hit, axis=2)
    costs = (stale * counts.cumsum(axis=1)).sum(axis=(1, 2))
    return np.stack([stale.any(axis=2).sum(axis=1), stale.sum(axis=(1, 2)), costs], axis=1)


def agree(found: NDArray[np.int64], expected: cost.Expected, sizes: list[list[int]]) -> None:
    """The means of (N, 3) are as close as they are but once in a billion (Maurer & Pontil, 2009, theorem 4)."""
    count, log = len(found), math.log(2e9)
    largest = np.array([len(sizes), len(sizes) * len(sizes[0]), cost.full(sizes, 1)])
    bound = np.sqrt(2 * found.var(axis=0, ddof=1) * log / count) + 7 * largest * log / (3 * (count - 1))
    difference = np.abs(found.mean(axis=0) - (expected.shards, expected.slices, expected.sample_epochs))
    assert (difference <= bound).all()


@settings(max_examples=30)
@given(SIZES, st.integers(1, 12), st.integers(0, 2**32))
def test_a_batch_costs_what_random_deletions_cost_on_average(sizes: list[list[int]], deletions: int, seed: int) -> None:
    found = touched(sizes, np.full(DRAWS, deletions), np.random.default_rng(seed))
    agree(found, cost.expected(sizes, 1, cost.batch(deletions)), sizes)


@settings(max_examples=30)
@given(SIZES, st.floats(0.01, 12), st.integers(0, 2**32))
def test_a_window_costs_what_the_requests_in_it_cost_on_average(
    sizes: list[list[int]], later: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    found = touched(sizes, 1 + generator.poisson(later, DRAWS), generator)
    agree(found, cost.expected(sizes, 1, cost.window(later)), sizes)


def test_retrainings_and_waiting_by_hand() -> None:
    # One request a day and a window of a day: on average a day until the first, a day until it closes.
    assert cost.retrainings(1, 1, 30) == 15
    # The first waits a day, one that follows half a day; there is one of each.
    assert cost.mean_wait(1, 1) == 0.75
    assert cost.mean_wait(1e-9, 7) == pytest.approx(7)
    assert cost.mean_wait(1e9, 7) == pytest.approx(3.5)


@pytest.mark.parametrize(("rate", "days"), [(0.2, 1.0), (3.0, 0.5), (20.0, 7.0)])
def test_retrainings_and_waiting_are_those_of_requests_that_come_at_random(rate: float, days: float) -> None:
    arrivals = np.cumsum(np.random.default_rng(7).exponential(1 / rate, 100_000))
    closings, waits = 0, []
    closes = -1.0
    for time in arrivals:
        if time > closes:
            closes, closings = time + days, closings + 1
        waits.append(closes - time)
    assert cost.retrainings(rate, days, float(arrivals[-1])) == pytest.approx(closings, rel=0.02)
    assert cost.mean_wait(rate, days) == pytest.approx(np.mean(waits), rel=0.02)


def test_windows_are_hours_or_days() -> None:
    assert parse_window("12h") == timedelta(hours=12)
    assert parse_window("7d") == timedelta(days=7)
    for text in ("", "0d", "7", "7 d", "-1d", "1.5d", "7D", "1w", "123456d", "٣d"):
        with pytest.raises(ValueError, match="expected hours or days, as 12h or 7d"):
            parse_window(text)
