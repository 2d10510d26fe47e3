import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, roc_auc_score

from training.evaluation.metrics import auroc, cross_entropy, expected_calibration_error, judge, weighted_scores
from training.evaluation.reports import Absent, Uncomputable


def test_weighted_scores_by_hand() -> None:
    # Class 0: 3 samples, 2 found, 1 false alarm: precision 2/3, recall 2/3, F1 2/3.
    # Class 1: 1 sample, 0 found, 1 false alarm: all 0. Weighted 3:1.
    scores = weighted_scores(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0]))
    assert scores == pytest.approx(
        {"accuracy": 0.5, "weighted_f1": 0.5, "weighted_precision": 0.5, "weighted_recall": 0.5}
    )


def test_auroc_by_hand() -> None:
    # Class 0 against the rest: positives .8 .3, negatives .5 .1: 3 of 4 pairs in order, 0.75.
    # Class 1: positive .4, negatives .1 .3 .2: 1. Class 2: positive .7, negatives .1 .4 .1: 1.
    scores = np.array([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    assert auroc(np.array([0, 0, 1, 2]), scores) == pytest.approx((0.75 + 1 + 1) / 3)


def test_auroc_of_two_classes_is_that_of_the_second() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
    assert auroc(np.array([0, 0, 1]), scores) == pytest.approx(0.5)


def test_auroc_without_a_sample_of_some_class_is_absent_with_the_reason() -> None:
    with pytest.raises(Uncomputable, match=r"no sample of class \[2\]"):
        auroc(np.array([0, 1]), np.full((2, 3), 1 / 3))


def test_cross_entropy_is_taken_of_the_probabilities_as_they_are() -> None:
    # −(ln 0.5 + ln 0.25) / 2 = 1.0397; a second softmax would give another number.
    assert cross_entropy(np.array([0, 1]), np.array([[0.5, 0.5], [0.75, 0.25]])) == pytest.approx(1.0397208)


def test_an_infinite_cross_entropy_is_absent_with_the_reason() -> None:
    with pytest.raises(Uncomputable, match="infinite: 1 samples have score 0 for their actual class"):
        cross_entropy(np.array([0, 1]), np.array([[0.5, 0.5], [1.0, 0.0]]))


def test_calibration_error_by_hand() -> None:
    # Two bins. Confidences 0.5 and 0.3 (bin 1): accuracy 1/2, mean 0.4, gap 0.1, weight 2/4.
    # Confidences 0.9 and 0.7 (bin 2): accuracy 1/2, mean 0.8, gap 0.3, weight 2/4.
    actual, predicted = np.array([0, 0, 0, 0]), np.array([0, 1, 0, 1])
    error = expected_calibration_error(actual, predicted, np.array([0.5, 0.3, 0.9, 0.7]), bins=2)
    assert error == pytest.approx(0.2)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 1)), min_size=1, max_size=40))
def test_calibration_error_against_brute_force(samples: list[tuple[bool, float]]) -> None:
    expected = 0.0
    for bin_id in range(15):
        inside = [(hit, p) for hit, p in samples if bin_id / 15 < p <= (bin_id + 1) / 15]
        if inside:
            gap = sum(hit for hit, _ in inside) / len(inside) - sum(p for _, p in inside) / len(inside)
            expected += len(inside) / len(samples) * abs(gap)
    actual = np.zeros(len(samples), np.int64)
    predicted = np.array([0 if hit else 1 for hit, _ in samples])
    confidence = np.array([p for _, p in samples])
    assert expected_calibration_error(actual, predicted, confidence) == pytest.approx(expected)


def test_a_metric_that_cannot_be_computed_says_why_in_its_place() -> None:
    votes = np.array([[3, 0, 0], [0, 1, 2]])
    report = judge(np.array([0, 1]), np.array([0, 2]), votes)
    assert report.accuracy == 0.5
    assert report.auroc == Absent(absent="the test set holds no sample of class [2]")
    assert report.log_loss == pytest.approx(np.log(3) / 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_every_metric_is_scikit_learns(classes: int) -> None:
    # Rounded scores, so that there are ties; class 0 is predicted never, class 1 too often.
    random = np.random.default_rng(0)
    actual = random.choice(classes, 300, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    scores = np.round(random.dirichlet(np.ones(classes), 300), 1) + 0.01
    scores /= scores.sum(axis=1, keepdims=True)
    predicted = np.maximum(scores.argmax(axis=1), 1)
    precision, recall, f1, _ = precision_recall_fscore_support(actual, predicted, average="weighted", zero_division=0)
    assert weighted_scores(actual, predicted) == pytest.approx(
        {
            "accuracy": accuracy_score(actual, predicted),
            "weighted_f1": f1,
            "weighted_precision": precision,
            "weighted_recall": recall,
        }
    )
    theirs = roc_auc_score(actual, scores[:, 1] if classes == 2 else scores, multi_class="ovr")
    assert auroc(actual, scores) == pytest.approx(theirs)
    assert cross_entropy(actual, scores) == pytest.approx(log_loss(actual, scores))
