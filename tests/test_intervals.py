import numpy as np
import pytest
from scipy.stats import binomtest

from training.evaluation.intervals import share_of, wilson_interval
from training.evaluation.reports import Uncomputable


def test_wilson_interval_by_hand() -> None:
    # 1 of 2, z² = 3.8415: centre (0.5 + 0.9604) / (1 + 1.9207) = 0.5, reach
    # 1.96 · √((0.25 + 0.4802) / 2) / 2.9207 = 0.4055.
    assert wilson_interval(1, 2) == pytest.approx((0.0945, 0.9055), abs=1e-4)


@pytest.mark.parametrize(("hits", "samples"), [(0, 1), (0, 20), (3, 10), (10, 10), (501, 1000)])
def test_wilson_interval_against_scipy(hits: int, samples: int) -> None:
    expected = binomtest(hits, samples).proportion_ci(method="wilson")
    assert wilson_interval(hits, samples) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("samples", [1, 7, 150, 320, 10_000])
def test_nothing_and_everything_end_at_exactly_0_and_1(samples: int) -> None:
    assert wilson_interval(0, samples)[0] == 0
    assert wilson_interval(samples, samples)[1] == 1


def test_an_interval_covers_the_true_share_about_19_times_in_20() -> None:
    draws = np.random.default_rng(0).binomial(50, 0.1, 2000)
    covered = [low <= 0.1 <= high for low, high in (wilson_interval(int(hits), 50) for hits in draws)]
    assert 0.93 < np.mean(covered) < 0.99


def test_a_share_of_nothing_is_absent() -> None:
    with pytest.raises(Uncomputable, match="there are no samples to take a share of"):
        share_of(np.array([], bool))
