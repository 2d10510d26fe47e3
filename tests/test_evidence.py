"""Evidence of a generation and what a report makes of it, from small numbers written down by hand."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from written import NOBODY, TOO_FEW, attack, attacked, lists, published, record, write_reports

from training.errors import DamagedError
from training.evaluation.reports import Absent, ForgetLists
from training.params import Trigger
from training.publish.events import Published
from training.report.cells import OF_THE_COST, ROWS, Cell, Kind, Notes, Value, complete, in_words
from training.report.evidence import Evidence, Trial, area, collect
from training.report.history import before, read_kept, remember, write_kept
from training.report.page import Table
from training.report.verdict import POISONED_LIST, verdict
from training.workspace import Workspace

CAT = Trial(target_class="cat", trigger=Trigger(size=3, value=255, position="random"))
DOG = Trial(target_class="dog", trigger=Trigger(size=3, value=255, position="random"))
ABSENT = Absent(absent="none")


def evidence(
    generation: int | None,
    listed: ForgetLists | None = None,
    backdoor: Trial | None = CAT,
    poisoned: int = 0,
    **cells: Cell,
) -> Evidence:
    """Every cell is a tenth of the generation's number but for ``cells``."""
    known: dict[str, Cell] = {row.name: Value(value=(generation or 0) / 10, of=100) for row in ROWS}
    return Evidence(
        generation=generation,
        release=f"release {generation}",
        retained=90,
        forgotten=10,
        poisoned=poisoned,
        list=listed or lists(),
        backdoor=backdoor,
        cells=known | cells,
    )


def ledger(*generations: int) -> list[Any]:
    """Entries of the generations whose evidence ``evidence`` makes."""
    return [
        Published(
            number=generation,
            time="2026-01-01T00:00:00+00:00",
            actor="tester",
            previous="",
            generation=generation,
            manifest_sha256="",
            release_sha256=f"release {generation}",
            shards=(),
        )
        for generation in generations
    ]


def test_the_cost_of_a_generation_is_what_the_ledger_says_was_trained_for_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_reports(workspace, "first")
    published(workspace, 1, record(0, ("a", 10, 1.0), ("b", 20, 2.0)), record(1, ("c", 10, 1.0), ("d", 20, 2.0)))
    write_reports(workspace, "second")
    published(workspace, 2, record(0, ("a", 10, 1.0), ("e", 18, 1.5)), record(1, ("c", 10, 1.0), ("d", 20, 2.0)))
    found = collect(workspace)
    assert found.generation == 2
    assert {name: found.cells[name] for name in OF_THE_COST} == {
        "shards": Value(value=1, of=2),
        "slices": Value(value=1, of=4),
        "sample_epochs": Value(value=18, of=58),
        "seconds": Value(value=1.5, of=5.5),
    }


def test_models_that_are_not_published_have_evidence_but_neither_generation_nor_cost(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_reports(workspace, "first")
    published(workspace, 1, record(0, ("a", 10, 1.0)))
    write_reports(workspace, "not published")
    found = collect(workspace)
    assert found.generation is None
    accuracy = found.cells["accuracy_mean"]
    assert isinstance(accuracy, Value)
    assert accuracy.interval == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Wilson's, of 90 in 100
    assert {found.cells[name] for name in OF_THE_COST} == {
        Absent(absent="these models are not published, and the cost of generations alone is recorded")
    }


def test_an_experiment_is_not_a_generation_though_git_brings_it_the_ledger(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / ".dvc/tmp/exps/tmp1")
    write_reports(workspace, "first")
    published(workspace, 1, record(0, ("a", 10, 1.0)))
    found = collect(workspace)
    assert found.generation is None
    assert "an experiment publishes nothing" in str(found.cells["seconds"])


def test_a_cell_is_the_number_with_its_interval_or_the_reason() -> None:
    assert area(attack(0.5, (0.4, 0.6))) == Value(value=0.5, interval=(0.4, 0.6))
    assert area(attack(0.5)) == Value(value=0.5)
    assert area(attack(0.5).model_copy(update={"auc": TOO_FEW})) == TOO_FEW
    assert area(NOBODY) == NOBODY


def test_a_cell_in_json_names_only_what_there_is() -> None:
    assert Value(value=3, of=25).model_dump(mode="json") == {"value": 3, "of": 25}
    assert Value(value=0.5, interval=(0.4, 0.6)).model_dump(mode="json") == {"value": 0.5, "interval": [0.4, 0.6]}


def test_an_attack_on_the_forget_set_is_a_cell_each(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_reports(workspace, "first", forget=attacked())
    cells = collect(workspace).cells
    assert cells["forget_accuracy"] == Value(value=0.9, interval=(0.6, 0.98))
    assert cells["reference_attack"] == Value(value=0.5, spread=0.02)
    assert cells["ratio_auc"] == NOBODY


def test_only_the_generation_before_is_remembered() -> None:
    kept: tuple[Evidence, ...] = ()
    for generation in (1, 2, 3):
        kept = remember(kept, evidence(generation), ledger(1, 2, 3)[:generation])
    assert [each.generation for each in kept] == [2, 3]


def test_looking_again_at_a_generation_keeps_the_one_before_it() -> None:
    again = evidence(2, accuracy_mean=Value(value=0.9))
    assert remember((evidence(1), evidence(2)), again, ledger(1, 2)) == (evidence(1), again)


def test_generations_of_another_ledger_are_forgotten() -> None:
    # models/ and the ledger were deleted and begun again: the old generation 1 is not before the new 2.
    another = evidence(1).model_copy(update={"release": "of the old ledger"})
    assert remember((another,), evidence(2), ledger(1, 2)) == (evidence(2),)


def test_models_that_are_not_a_generation_leave_what_is_remembered() -> None:
    kept = (evidence(1), evidence(2))
    assert remember(kept, evidence(None), ledger(1, 2)) == kept


def test_what_was_kept_is_read_back_as_it_was(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert read_kept(workspace) == ()
    kept = (evidence(1, seconds=ABSENT), evidence(2, backdoor=None))
    write_kept(workspace, kept)
    assert read_kept(workspace) == kept


def test_what_an_earlier_version_kept_is_dropped_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspace = Workspace(tmp_path)
    write_kept(workspace, [evidence(1)])
    document = json.loads(workspace.report("history.json").read_text())
    cells = document["generations"][0]["cells"]
    cells["attack_floor"] = cells.pop("attack_baseline")
    workspace.report("history.json").write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING, logger="training"):
        assert read_kept(workspace) == ()
    assert "reports/history.json was kept by an earlier version" in caplog.text


def test_a_damaged_history_is_an_error_that_says_how_to_get_it_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.reports_folder.mkdir()
    workspace.report("history.json").write_text("{")
    with pytest.raises(DamagedError, match=r"history\.json is damaged .* `dvc checkout reports/history\.json`"):
        read_kept(workspace)


def test_before_is_the_previous_generations_evidence() -> None:
    column = before((evidence(1), evidence(2)), evidence(2))
    assert column == {row.name: Value(value=0.1, of=100) for row in ROWS}


def test_without_a_generation_before_there_is_no_number_but_the_reason() -> None:
    column = before((evidence(4),), evidence(4))
    assert set(column.values()) == {Absent(absent="generation 4 is the first that was reported here")}
    assert list(column) == [row.name for row in ROWS]


def test_models_that_are_not_a_generation_have_no_before() -> None:
    assert "not a generation" in str(before((evidence(1), evidence(2)), evidence(None))["accuracy_mean"])


def test_before_shows_no_attack_on_another_list() -> None:
    now = evidence(2, lists("somebody"))
    column = before((evidence(1, lists("nobody")), now), now)
    assert "generation 1 was attacked on another forget list" in str(column["loss_auc"])
    assert column["accuracy_mean"] == Value(value=0.1, of=100)

    now = evidence(2, lists("nobody"), loss_auc=ABSENT, ratio_auc=ABSENT)
    column = before((evidence(1, lists("somebody"), ratio_auc=TOO_FEW), now), now)
    assert "generation 1 was attacked on another forget list" in str(column["loss_auc"])
    assert column["ratio_auc"] == TOO_FEW  # nothing in either: the reason that it always had


def test_before_shows_no_success_of_another_trigger() -> None:
    column = before((evidence(1, backdoor=DOG), evidence(2, backdoor=CAT)), evidence(2, backdoor=CAT))
    for name in ("attack_success", "attack_baseline", "attack_recovery"):
        assert "generation 1 was tried with another trigger or target class" in str(column[name])
    assert column["loss_auc"] == Value(value=0.1, of=100)


def test_a_column_of_an_earlier_version_has_a_reason_in_the_rows_it_did_not_know() -> None:
    column = complete({"accuracy_mean": Value(value=0.5), "attack_floor": Value(value=0.1)})
    assert column["accuracy_mean"] == Value(value=0.5)
    assert column["attack_baseline"] == Absent(absent="not measured by the version that made this column")
    assert list(column) == [row.name for row in ROWS]


@pytest.mark.parametrize(
    ("cell", "kind", "expected"),
    [
        (Value(value=0.5, interval=(0.4, 0.61)), "share", "0.500 [0.400, 0.610]"),
        (Value(value=0.5, spread=0.02), "share", "0.500 ± 0.020"),
        (Value(value=0.5), "share", "0.500"),
        (Value(value=3, of=25), "count", "3 of 25"),
        (Value(value=0, of=0), "count", "0 of 0"),
        (Value(value=1500, of=6000), "count", "1,500 of 6,000 (25.0%)"),
        (Value(value=1234.56), "seconds", "1,234.6"),
        (Value(value=250.0, of=1000.0), "seconds", "250.0 of 1,000.0 (25.0%)"),
        (Value(value=1500.25, spread=12.0), "count", "1,500 ± 12"),
        (Value(value=4.5, spread=0.7), "count", "4.5 ± 0.7"),
        (ABSENT, "share", "–"),
    ],
)
def test_how_a_cell_is_written(cell: Cell, kind: Kind, expected: str) -> None:
    assert in_words(cell, kind) == expected


def test_one_reason_is_one_note_however_often_it_holds() -> None:
    why, other = Absent(absent="why"), Absent(absent="other")
    column: dict[str, Cell] = {row.name: why for row in ROWS}
    table = Table({"before": column, "after": {**column, "seconds": other}})
    notes = [[note for _, _, note in cells] for _, cells in table.rows]
    assert notes[0] == [1, 1]
    assert notes[-1] == [1, 2]
    assert table.notes == ["why", "other"]
    assert Notes(["why"]).mark(other, "share") == "– (2)"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.45, 0.55), "finds no difference between forgotten samples and non-members"),
        ((0.51, 0.55), "finds forgotten samples more familiar than non-members"),
        ((0.41, 0.45), "finds forgotten samples less familiar than non-members"),
    ],
)
def test_the_verdict_says_what_the_interval_says(interval: tuple[float, float], expected: str) -> None:
    loss = Value(value=0.5, interval=interval)
    (sentence,) = verdict(evidence(1, loss_auc=loss, ratio_auc=ABSENT, attack_success=ABSENT))
    assert sentence.startswith(f"The attack by loss {expected}")


def test_the_verdict_on_few_samples_is_that_they_are_few() -> None:
    now = evidence(1, loss_auc=Value(value=0.93), ratio_auc=ABSENT, attack_success=ABSENT)
    assert verdict(now) == ["The attack by loss has too few samples to say anything (AUC 0.930)."]


@pytest.mark.parametrize(
    ("already_gone", "expected"),
    [
        (3, ["2 listed samples are only monitored, and still trained on."]),
        (4, ["1 listed sample is only monitored, and still trained on."]),
        (5, []),
    ],
)
def test_monitored_samples_are_trained_on_unless_they_are_gone(already_gone: int, expected: list[str]) -> None:
    listed = lists(listed=5, applied=False, already_gone=already_gone)
    assert verdict(evidence(1, listed, loss_auc=ABSENT, ratio_auc=ABSENT, attack_success=ABSENT)) == expected


def test_the_verdict_on_poisoned_samples_says_what_an_attack_by_loss_cannot_tell() -> None:
    loss, backdoor, reading = verdict(
        evidence(
            1,
            loss_auc=Value(value=0.02, interval=(0.01, 0.03)),
            ratio_auc=ABSENT,
            attack_success=Value(value=0.024),
            attack_baseline=Value(value=0.025),
        )
    )
    assert "less familiar" in loss
    assert backdoor == (
        "A backdoor was planted; all of it is forgotten. The trigger turns 2.4% of the other classes' test images "
        "into its class; without the trigger, 2.5% of them are classified as it."
    )
    assert reading == POISONED_LIST
