"""Accuracy by class, before and after: the smallest first, and in words."""

from pathlib import Path

import pytest

from training.evaluation.reports import Absent
from training.report.cells import Value
from training.report.classes import ClassAccuracy, class_sentences, compare, read_classes, shown


def of(name: str, retained: int, accuracy: float, interval: tuple[float, float] | None = None) -> ClassAccuracy:
    cell = Value(value=accuracy, interval=interval)
    return ClassAccuracy(name=name, retained=retained, mean=cell, vote=Value(value=0.5))


def test_a_class_has_an_interval_and_one_without_test_pictures_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("class,retained,test_samples,mean,vote\ncat,60,100,0.900000,0.800000\ndog,40,0,,\n")
    cat, dog = read_classes(path)
    assert (cat.name, cat.retained) == ("cat", 60)
    assert isinstance(cat.mean, Value)
    assert cat.mean.interval == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Wilson's, of 90 in 100
    assert cat.of("vote") == cat.vote != cat.mean
    assert dog.mean == Absent(absent="the test set holds no picture of this class")


def test_the_smallest_classes_come_first_beside_what_they_were() -> None:
    before = [of("cat", 50, 0.9), of("dog", 40, 0.8)]
    cat, dog, emu = compare(before, [of("dog", 39, 0.7), of("cat", 20, 0.9), of("emu", 60, 0.6)], "mean")
    assert [(each.name, each.retained_before, each.retained) for each in (cat, dog, emu)] == [
        ("cat", 50, 20),
        ("dog", 40, 39),
        ("emu", None, 60),
    ]
    assert dog.lost == pytest.approx(0.1)
    assert emu.lost == float("-inf")


def test_of_many_classes_the_smallest_and_those_that_lost_most_are_shown() -> None:
    before = [of(f"{number:02d}", number, 0.9) for number in range(40)]
    now = [of(f"{number:02d}", number, 0.9 - (number in (30, 35)) * number / 100) for number in range(40)]
    names = [each.name for each in shown(compare(before, now, "mean"))]
    assert names == [*(f"{number:02d}" for number in range(10)), "35", "30"]


def test_the_smallest_classes_and_the_greatest_loss_are_said_in_words() -> None:
    before = [of("cat", 50, 0.9, (0.85, 0.93)), of("dog", 40, 0.8, (0.75, 0.84))]
    now = [of("cat", 49, 0.8, (0.75, 0.84)), of("dog", 12, 0.79, (0.74, 0.83))]
    smallest, most = class_sentences(compare(before, now, "mean"))
    assert smallest == (
        "The smallest classes: dog (12 trained on) 0.790, before 0.800; cat (49 trained on) 0.800, before 0.900."
    )
    assert most == "The class that lost most accuracy is cat: 0.800, before 0.900."
    now[0] = of("cat", 49, 0.88, (0.83, 0.92))
    assert list(class_sentences(compare(before, now, "mean")))[1].endswith(
        "0.880, before 0.900, within what chance explains."
    )
    assert list(class_sentences(compare((), now, "mean"))) == [
        "The smallest classes: dog (12 trained on) 0.790; cat (49 trained on) 0.880."
    ]
    assert list(class_sentences([])) == []
