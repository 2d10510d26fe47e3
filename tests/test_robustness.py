from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ensemble.robustness import robustness


@pytest.mark.parametrize(
    ("votes", "bound"),
    [
        ([5, 0, 0], 2),  # 5:0; two replaced make it 3:2, three 2:3
        ([4, 1, 0], 1),  # 4:1; one replaced makes it 3:2, two 2:3
        ([3, 2, 0], 0),  # 3:2; one replaced makes it 2:3
        ([4, 0, 0], 1),  # two replaced tie, and a tie counts as lost
        ([2, 2, 1], 0),
        ([1, 0, 0], 0),
        ([20, 0], 9),
        ([10, 5, 5], 2),
        ([7], 3),
    ],
)
def test_robustness_by_hand(votes: list[int], bound: int) -> None:
    assert robustness(np.array([votes])).tolist() == [bound]


def wins(ballots: tuple[int | None, ...], label: int) -> bool:
    """Whether ``label`` alone has the most votes; None abstains."""
    votes = Counter(ballot for ballot in ballots if ballot is not None)
    return all(votes[label] > count for other, count in votes.items() if other != label) and votes[label] > 0


def flips(ballots: tuple[int | None, ...], label: int, replaced: int, classes: int) -> bool:
    """Whether some replacement of ``replaced`` shards' models, silent ones included, takes the vote from ``label``."""
    for where in combinations(range(len(ballots)), replaced):
        for new in product([None, *range(classes)], repeat=replaced):
            changed = list(ballots)
            for shard, ballot in zip(where, new, strict=True):
                changed[shard] = ballot
            if not wins(tuple(changed), label):
                return True
    return False


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shards", [1, 2, 3, 4, 5])
def test_no_replacement_of_as_many_shards_flips_a_vote_and_without_silence_one_more_does(
    shards: int, classes: int
) -> None:
    """Brute force over every outcome of a small ensemble, and every replacement of its models."""
    for ballots in product([None, *range(classes)], repeat=shards):
        counts = np.array([[ballots.count(label) for label in range(classes)]])
        label = int(counts.argmax())
        bound = int(robustness(counts)[0])
        if not wins(ballots, label):
            assert bound == 0
            continue
        assert not any(flips(ballots, label, replaced, classes) for replaced in range(1, bound + 1))
        if None not in ballots and shards > bound:
            assert flips(ballots, label, bound + 1, classes)  # the bound is tight


@pytest.mark.parametrize(
    ("votes", "pending", "bound"),
    [
        ([5, 0, 0], 1, 1),  # 5:0, 5:1 when it is back; one replaced makes it 4:2, two 3:3
        ([5, 0, 0], 2, 1),  # 5:2; one replaced makes it 4:3
        ([5, 0, 0], 3, 0),  # 5:3; one replaced makes it 4:4
        ([5, 0, 0], 9, 0),
        ([3, 1], 1, 0),  # 3:2 stays
        ([20, 0], 4, 7),  # 20:4; seven replaced make it 13:11, eight 12:12
    ],
)
def test_robustness_with_pending_shards_by_hand(votes: list[int], pending: int, bound: int) -> None:
    assert robustness(np.array([votes]), pending).tolist() == [bound]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("answering", "pending"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (3, 2), (4, 2)])
def test_whatever_pending_shards_will_answer_as_many_replacements_flip_no_vote_and_one_more_does(
    answering: int, pending: int, classes: int
) -> None:
    """Brute force: every outcome of those that answer, every return of the pending ones, every replacement."""
    for ballots in product([None, *range(classes)], repeat=answering):
        counts = np.array([[ballots.count(label) for label in range(classes)]])
        label = int(counts.argmax())
        bound = int(robustness(counts, pending)[0])
        returns = [(*ballots, *back) for back in product([None, *range(classes)], repeat=pending)]
        if bound > 0:
            for whole in returns:
                assert wins(whole, label)
                assert not any(flips(whole, label, replaced, classes) for replaced in range(1, bound + 1))
        if None not in ballots and answering > bound and all(wins(whole, label) for whole in returns):
            assert any(flips(whole, label, bound + 1, classes) for whole in returns)  # the bound is tight


@given(st.lists(st.integers(0, 30), min_size=2, max_size=12), st.integers(0, 20))
def test_a_pending_shard_never_makes_a_vote_more_robust(votes: list[int], pending: int) -> None:
    assert robustness(np.array([votes]), pending + 1)[0] <= robustness(np.array([votes]), pending)[0]


@given(st.lists(st.integers(0, 30), min_size=2, max_size=12))
def test_robustness_is_below_half_of_the_lead(votes: list[int]) -> None:
    first, second = sorted(votes, reverse=True)[:2]
    bound = int(robustness(np.array([votes]))[0])
    assert 0 <= 2 * bound <= max(0, first - second - 1)
    assert first - second - 1 < 2 * (bound + 1)
