"""What the measurements of withdrawals count, on answers written down by hand."""

import numpy as np
import pytest

from benchmarks.pending_accuracy import Judged, pending, window
from benchmarks.withdrawal import Answer, Timeline


def timeline() -> Timeline:
    """Shard 0's model ``a`` is withdrawn at 10 and replaced by ``b`` in generation 2."""
    return Timeline(listed={1: {0: "a", 1: "x"}, 2: {0: "b", 1: "x"}}, gone={"a": 10.0})


def test_a_model_takes_part_in_answers_of_generations_that_list_it_unless_its_shard_is_pending() -> None:
    assert timeline().models(Answer(0, 1, 200, 1)) == {"a", "x"}
    assert timeline().models(Answer(0, 1, 200, 1, (0,))) == {"x"}
    assert timeline().models(Answer(0, 1, 200, 2)) == {"b", "x"}


def test_seconds_run_to_the_last_answer_in_which_the_model_took_part() -> None:
    answers = [Answer(8, 9, 200, 1), Answer(9, 12.5, 200, 1), Answer(9, 13, 200, 1, (0,)), Answer(9, 14, 200, 2)]
    assert timeline().seconds(answers, "a", start=9.5) == 3.0
    assert timeline().seconds(answers, "a", start=12.75) == 0.0
    assert timeline().seconds([*answers, Answer(9, 20, 503)], "a", start=9.5) == 3.0


def test_stale_is_what_was_asked_for_after_a_withdrawal_and_answered_with_the_model() -> None:
    asked_before, asked_after = Answer(9.9, 12, 200, 1), Answer(10.1, 12, 200, 1)
    assert timeline().stale([asked_before]) == 0
    assert timeline().stale([asked_before, asked_after, Answer(10.1, 12, 200, 1, (0,))]) == 1


# Three shards, two slices, two classes, four samples of class 0. After its last slice shard 0 gets all right, shard 1
# all but one, shard 2 none; after the first slice every shard gets none.
RIGHT = [[0, 4], [0, 3], [0, 0]]
ANSWERS = np.array(
    [[[[0.9, 0.1]] * right + [[0.2, 0.8]] * (4 - right) for right in shard] for shard in RIGHT], np.float32
)
ACTUAL = np.zeros(4, np.int64)


def test_accuracy_of_what_is_left() -> None:
    judged = Judged(ANSWERS, ACTUAL)
    assert judged.accuracy((1, 1, 1)) == 0.75  # means .67, .67, .67, .43 for class 0
    assert judged.accuracy((1, -1, 1)) == 1.0  # .55 each
    assert judged.accuracy((-1, -1, 1)) == 0.0
    assert judged.accuracy((0, 1, 1)) == 0.0  # means .43 and .2
    assert judged.accuracy((-1, -1, -1)) is None
    rows = pending(ANSWERS, ACTUAL, judged, draws=20, seed=0)
    assert [row["mean"] for row in rows] == [0.75, pytest.approx((1 + 0.75 + 1) / 3), pytest.approx(1.75 / 3), None]
    assert (rows[2]["mean_lowest"], rows[2]["mean_highest"]) == (0.0, 1.0)


def test_a_window_that_hits_every_first_slice_leaves_nothing() -> None:
    judged = Judged(ANSWERS, ACTUAL)
    slices = [np.zeros(1, np.int64)] * 3
    row = window(judged, slices, 3, draws=5, seed=0, quorum=0.5)
    assert (row["pending"], row["below_quorum"], row["none_left"], row["service_refuses"]) == (3.0, 1.0, 1.0, 1.0)
    assert row["abstaining"] is row["earlier"] is row["service"] is None


def test_below_the_quorum_alone_the_service_answers_from_earlier_slices() -> None:
    judged = Judged(ANSWERS, ACTUAL)
    slices = [np.array([1]), np.array([1]), np.array([1])]  # only last slices can be hit
    one = window(judged, slices, 1, draws=30, seed=0, quorum=0.5)
    assert one["service"] == one["abstaining"] != one["earlier"]  # two of three answer: enough
    two = window(judged, slices, 2, draws=30, seed=0, quorum=0.5)
    assert two["service"] == two["earlier"] != two["abstaining"]
    assert two["service_refuses"] == 0.0
