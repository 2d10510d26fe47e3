"""How far a request has come, by ledgers made by hand: shards 0, 1 and 2, a time an hour."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ensemble.manifest import Forgotten, OpenRequests, Release, ShardEntry
from training.forgetting.requests import proven
from training.publish.events import Cancelled, Entry, FellBack, Published, Purged, Requested, Verified, Withdrawn
from training.publish.progress import Progress, follow, open_requests, since


class Hand:
    """A ledger, written entry by entry; the entry of number N is of N o'clock."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def _stamp(self) -> dict[str, Any]:
        number = len(self.entries) + 1
        return {"number": number, "time": at(number), "actor": "ada", "previous": "0" * 64}

    def requested(self, name: str, samples: int = 1) -> Hand:
        fields = {"request": name, "samples": samples, "batch": "b", "reference": None, "approver": None}
        self.entries.append(Requested.model_validate({**self._stamp(), **fields}))
        return self

    def withdrawn(self, name: str, *shards: int, generation: int | None = 2) -> Hand:
        fields = {"requests": (name,), "models": ("m",), "shards": shards, "generation": generation}
        self.entries.append(Withdrawn.model_validate({**self._stamp(), **fields}))
        return self

    def published(self, *pending: int, earlier: int | None = None) -> Hand:
        fields = {"generation": 1, "manifest_sha256": "m", "release_sha256": "r", "shards": (), "pending": pending}
        slices = {} if earlier is None else {str(earlier): 0}
        self.entries.append(Published.model_validate({**self._stamp(), **fields, "earlier_slice": slices}))
        return self

    def fell_back(self, shard: int) -> Hand:
        fields = {"generation": 3, "manifest_sha256": "m", "earlier_slice": {str(shard): 0}}
        self.entries.append(FellBack.model_validate({**self._stamp(), **fields}))
        return self

    def verified(self, *retrained: int, passed: bool = True) -> Hand:
        fields = {"generation": 3, "manifest_sha256": "m", "passed": passed, "findings_sha256": "f"}
        self.entries.append(Verified.model_validate({**self._stamp(), **fields, "retrained": retrained}))
        return self

    def purged(self, left: int = 0) -> Hand:
        fields = {"generation": 3, "removed": 5, "left": left, "source": 0, "findings_sha256": "f"}
        self.entries.append(Purged.model_validate({**self._stamp(), **fields}))
        return self

    def cancelled(self, name: str) -> Hand:
        self.entries.append(Cancelled.model_validate({**self._stamp(), "request": name, "reason": "a mistake"}))
        return self

    def steps(self) -> list[str]:
        return [each.step for each in follow(self.entries).requests]

    def only(self) -> Progress:
        (only,) = follow(self.entries).requests
        return only


def at(hour: int) -> str:
    return f"2026-11-26T{hour:02}:00:00+00:00"


@pytest.fixture
def hand() -> Hand:
    return Hand().published()


def test_a_request_is_requested_withdrawn_and_published_when_its_shards_answer_again(hand: Hand) -> None:
    assert hand.requested("one", samples=3).steps() == ["requested"]
    assert hand.withdrawn("one", 1, 2).steps() == ["withdrawn"]
    assert hand.only().waiting == {1, 2}
    assert hand.published(2).steps() == ["withdrawn"]
    assert hand.only().waiting == {2}
    assert hand.published().steps() == ["published"]
    done = hand.only()
    assert (done.asked.time, done.withdrawn, done.published) == (at(2), at(3), at(5))


def test_the_next_generation_completes_a_request_of_samples_that_no_model_saw(hand: Hand) -> None:
    assert hand.requested("one").steps() == ["requested"]
    assert hand.published().steps() == ["published"]


def test_an_earlier_slice_is_not_the_end_of_it(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 1).fell_back(1)
    assert hand.published(earlier=1).steps() == ["withdrawn"]
    assert hand.published().steps() == ["published"]


def test_a_shard_that_goes_again_for_another_request_does_not_keep_the_first_one_open(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 0, 1).published(1)  # 0 is back, 1 is not
    hand.requested("two").withdrawn("two", 0).published(0)  # 1 is back, 0 is not
    assert hand.steps() == ["published", "withdrawn"]


def test_a_request_for_a_shard_that_is_pending_already_waits_for_it(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 1).requested("two")  # no model is left that it could withdraw
    assert hand.steps() == ["withdrawn", "withdrawn"]
    hand.requested("three").withdrawn("three", 2).published(1)
    assert hand.steps() == ["withdrawn", "withdrawn", "withdrawn"]  # the third one may be in shard 1, too
    assert hand.published().steps() == ["published", "published", "published"]


def test_what_is_added_to_a_list_does_not_keep_open_what_was_on_it_before(hand: Hand) -> None:
    hand.requested("list").withdrawn("list", 0).published()
    hand.requested("list").withdrawn("list", 1)
    assert hand.steps() == ["published", "withdrawn"]
    hand.requested("list").withdrawn("list", 2).published(2)
    assert hand.steps() == ["published", "published", "withdrawn"]


def test_a_model_that_comes_back_opens_the_request_again_since_it_was_made(hand: Hand) -> None:
    hand.requested("list").withdrawn("list", 0).published()
    hand.withdrawn("list", 1)
    assert hand.only().step == "withdrawn"
    assert hand.only().asked.time == at(2)
    assert hand.only().waiting == {1}


def test_a_cancelled_request_is_not_open_and_a_later_withdrawal_does_not_open_it(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 0).requested("two").cancelled("one").withdrawn("one", 1)
    assert [each.asked.request for each in follow(hand.entries).open] == ["two"]
    assert hand.steps() == ["cancelled", "withdrawn"]


def test_a_shard_is_away_from_its_withdrawal_until_it_answers_with_all_its_slices(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 0, 1)
    hand.requested("two").withdrawn("two", 1, 2)
    assert follow(hand.entries).away == {0: at(3), 1: at(3), 2: at(5)}
    hand.published(2, earlier=1)
    assert follow(hand.entries).away == {1: at(3), 2: at(5)}
    assert follow(hand.published().entries).away == {}


def test_withdrawing_a_model_that_is_no_longer_published_takes_no_shard_away(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 4, generation=None)
    assert follow(hand.entries).away == {}
    assert hand.published().steps() == ["published"]  # there is no shard 4 any more


def release(*pending: int) -> Release:
    shards = [ShardEntry(shard=shard, retained=1, key="k", abstains=False, file="f", sha256="s") for shard in range(3)]
    return Release(
        aggregation="mean",
        classes=("a", "b"),
        image_shape=(8, 8, 3),
        forgotten=Forgotten(listed=0, already_gone=0, sha256=""),
        shards=tuple(each.withdrawn() if each.shard in pending else each for each in shards),
    )


def test_a_manifest_has_what_is_open_when_it_comes_out(hand: Hand) -> None:
    assert open_requests(hand.entries, release(), trained=True) is None
    hand.requested("one")  # the withdrawal that follows is not in the ledger yet
    two = datetime(2026, 11, 26, 2, tzinfo=UTC)
    assert open_requests(hand.entries, release(1), trained=False) == OpenRequests(number=1, oldest=two)
    hand.withdrawn("one", 1).requested("two").withdrawn("two", 2)
    assert [since(each).hour for each in follow(hand.entries).open] == [2, 4]
    assert open_requests(hand.entries, release(1, 2), trained=True) == OpenRequests(number=2, oldest=two)
    assert open_requests(hand.entries, release(2), trained=True) == OpenRequests(number=1, oldest=two.replace(hour=4))
    assert open_requests(hand.entries, release(), trained=True) is None


NAMES = st.sampled_from(["list", "one", "two"])
SHARDS = st.lists(st.integers(0, 2), max_size=3, unique=True)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["requested", "withdrawn", "published", "cancelled"]), NAMES, SHARDS), max_size=20
)


@given(EVENTS)
def test_whatever_came_before_a_generation_in_which_every_shard_answers_leaves_nothing_open(
    events: list[tuple[str, str, list[int]]],
) -> None:
    hand = Hand()
    for event, name, shards in events:
        if event == "requested":
            hand.requested(name)
        elif event == "withdrawn":
            hand.withdrawn(name, *shards)
        elif event == "published":
            hand.published(*shards)
        else:
            hand.cancelled(name)
        standing = follow(hand.entries)
        # A manifest and the command say the same: how many are open, since when.
        told = open_requests(hand.entries, release(*standing.away), trained=False)
        assert (0 if told is None else told.number) == len(standing.open)
        assert all(each.published is None and each.cancelled is None for each in standing.open)
    assert follow(hand.published().entries).open == ()


def test_what_is_published_is_verified_by_retraining_its_shards_and_purged_when_nothing_is_left(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 1, 2)
    assert proven(hand.verified(1, 2).purged().entries) == {}  # it is not done yet
    hand.published()
    assert proven(hand.entries) == {}
    assert proven(hand.verified(1).verified().verified(1, 2, passed=False).entries) == {}  # not both, none, failed
    assert proven(hand.verified(0, 1, 2).entries) == {"one": "verified"}
    assert proven(hand.purged(left=3).entries) == {"one": "verified"}
    assert proven(hand.purged().entries) == {"one": "purged"}
    assert hand.only().touched == {1, 2}
    hand.withdrawn("one", 2)  # a model that saw it came back
    assert proven(hand.published().entries) == {}
    assert hand.only().touched == {1, 2}


def test_of_a_list_that_grew_all_must_be_proved(hand: Hand) -> None:
    hand.requested("one").withdrawn("one", 1).published().verified(1)
    assert proven(hand.entries) == {"one": "verified"}
    hand.requested("one").withdrawn("one", 0).published()
    assert proven(hand.entries) == {}
    assert proven(hand.verified(0).entries) == {"one": "verified"}
