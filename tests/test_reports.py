from pathlib import Path

import pytest

from training.data.summary import Poisoned
from training.errors import DamagedError
from training.evaluation.reports import (
    Absent,
    Attack,
    Backdoor,
    Metrics,
    Quality,
    Recognised,
    Share,
    TriggerEffect,
    read_backdoor,
    read_metrics,
)
from training.params import Trigger

QUALITY = Quality(
    accuracy=0.5,
    weighted_f1=0.25,
    weighted_precision=0.125,
    weighted_recall=0.5,
    auroc=Absent(absent="the test set holds no sample of class [2]"),
    log_loss=0.6931471805599453,
    expected_calibration_error=0.0,
)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    metrics = Metrics(test_samples=4, mean=QUALITY, vote=QUALITY)
    (tmp_path / "metrics.json").write_bytes(metrics.to_bytes())
    assert read_metrics(tmp_path / "metrics.json") == metrics
    some = Share(share=0.5, interval=(0.1, 0.9), samples=2)
    effect = TriggerEffect(attack_success=Absent(absent="why"), baseline=some, recovery=some, clean_accuracy=some)
    backdoor = Backdoor(
        target_class="0",
        relabel=True,
        trigger=Trigger(size=2, value=255, position="random"),
        poisoned=Poisoned(planted=3, retained=(1, 0)),
        mean=effect,
        vote=effect,
        shards=(),
    )
    for report in (backdoor, Absent(absent="nothing was planted")):
        (tmp_path / "backdoor.json").write_bytes(report.to_bytes())
        assert read_backdoor(tmp_path / "backdoor.json") == report


def test_what_is_absent_says_why_in_its_own_place() -> None:
    attack = Attack(
        auc=0.5,
        interval=Absent(absent="few samples"),
        tpr_at_fpr_1_percent=Recognised(share=0.25, interval=(0.0, 0.5)),
        tpr_at_fpr_1_permille=Absent(absent="fewer still"),
    )
    assert attack.model_dump(mode="json", by_alias=True) == {
        "auc": 0.5,
        "interval": {"absent": "few samples"},
        "tpr_at_fpr_0.01": {"share": 0.25, "interval": [0.0, 0.5]},
        "tpr_at_fpr_0.001": {"absent": "fewer still"},
    }


def test_a_report_holds_no_number_that_is_not_one() -> None:
    with pytest.raises(ValueError, match="finite number"):
        QUALITY.model_validate({**dict(QUALITY), "log_loss": float("inf")})


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"{}", "test_samples\n  Field required"), (b"{", "Invalid JSON"), (b'{"absent": "x"}', "Extra inputs")],
)
def test_a_file_that_is_not_such_a_report_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(DamagedError, match=rf"metrics.json is damaged \((.|\n)*{why}"):
        read_metrics(tmp_path / "metrics.json")


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"metrics\.json is missing"):
        read_metrics(tmp_path / "metrics.json")
