import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.batching import Batcher, Scores


class Echo:
    """Stands for an Ensemble of two shards that say of each picture what its first pixel is, out of 4 classes."""

    def __init__(self, fail_on: int | None = None) -> None:
        self.fail_on = fail_on
        self.batches: list[int] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def shard_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.entered.set()
        self.gate.wait()
        self.batches.append(len(images))
        if self.fail_on is not None and (images[:, 0, 0, 0] == self.fail_on).any():
            raise RuntimeError("this picture is too much")
        one = np.eye(4, dtype=np.float32)[images[:, 0, 0, 0]]
        return np.stack([one, one])


def pictures(*values: int) -> NDArray[np.uint8]:
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


def labels(scores: Scores) -> list[int]:
    return [int(label) for label in scores.mean.argmax(axis=1)]


async def ask_all(batcher: Batcher, ensemble: Any, requests: Sequence[Sequence[int]]) -> list[Any]:
    tasks = [asyncio.ensure_future(batcher.scores(ensemble, pictures(*request))) for request in requests]
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_during_a_batch_is_the_next_batch() -> None:
    async def scene() -> None:
        echo: Any = Echo()
        echo.gate.clear()
        batcher = Batcher(8, lambda size: None)
        first = asyncio.ensure_future(batcher.scores(echo, pictures(0)))
        await asyncio.to_thread(echo.entered.wait)  # the first is being computed
        others = [asyncio.ensure_future(batcher.scores(echo, pictures(value, value))) for value in (1, 2, 3)]
        await asyncio.sleep(0)  # they have asked
        echo.gate.set()
        assert [labels(scores) for scores in await asyncio.gather(first, *others)] == [[0], [1, 1], [2, 2], [3, 3]]
        assert echo.batches == [1, 6]

    asyncio.run(scene())


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=9), st.integers(1, 5))
def test_every_request_gets_its_own_answers_and_no_batch_is_too_large(requests: list[list[int]], largest: int) -> None:
    echo: Any = Echo()
    sizes: list[int] = []
    answers = asyncio.run(ask_all(Batcher(largest, sizes.append), echo, requests))
    assert [labels(scores) for scores in answers] == requests
    assert all((scores.votes.sum(axis=1) == 2).all() for scores in answers)
    assert max(echo.batches) <= largest
    assert sizes == echo.batches
    assert sum(sizes) == sum(map(len, requests))


def test_a_batch_is_of_one_ensemble() -> None:
    async def scene() -> None:
        old: Any = Echo()
        new: Any = Echo()
        batcher = Batcher(8, lambda size: None)
        asked = [batcher.scores(ensemble, pictures(1)) for ensemble in (old, old, new, new, old)]
        await asyncio.gather(*asked)
        assert sum(old.batches) == 3
        assert new.batches == [2]

    asyncio.run(scene())


def test_a_request_that_fails_harms_no_other_in_its_batch() -> None:
    echo: Any = Echo(fail_on=3)
    answers = asyncio.run(ask_all(Batcher(8, lambda size: None), echo, [[0], [1, 3], [2]]))
    assert labels(answers[0]) == [0]
    assert isinstance(answers[1], RuntimeError)
    assert labels(answers[2]) == [2]


def test_a_request_that_was_given_up_is_not_computed() -> None:
    async def scene() -> None:
        echo: Any = Echo()
        echo.gate.clear()
        batcher = Batcher(8, lambda size: None)
        first = asyncio.ensure_future(batcher.scores(echo, pictures(0)))
        await asyncio.to_thread(echo.entered.wait)
        given_up = asyncio.ensure_future(batcher.scores(echo, pictures(1, 1, 1)))
        kept = asyncio.ensure_future(batcher.scores(echo, pictures(2)))
        await asyncio.sleep(0)
        given_up.cancel()
        echo.gate.set()
        await asyncio.gather(first, kept)
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert echo.batches == [1, 1]

    asyncio.run(scene())


def test_clients_take_turns_however_much_one_of_them_has_waiting() -> None:
    async def ask() -> list[int]:
        echo: Any = Echo()
        order: list[int] = []
        batcher = Batcher(1, lambda size: None)

        async def wait(value: int, client: str) -> None:
            await batcher.scores(echo, pictures(value), client)
            order.append(value)

        await asyncio.gather(*(wait(0, "greedy") for _ in range(10)), wait(1, "another"), wait(2, "third"))
        return order

    order = asyncio.run(ask())
    assert sorted(order) == [0] * 10 + [1, 2]
    assert order.index(1) <= 2  # after the one that was at work, and one more of the greedy client at most
    assert order.index(2) <= 3
