"""Evidence of a generation and what a report makes of it, from small numbers written down by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.evaluation.evidence import ROWS, before, cell, cost, in_words, remember
from training.evaluation.report import POISONED_LIST, Table, verdict


def evidence(generation: int, listed: str = "list", **cells: Any) -> dict[str, Any]:
    known: dict[str, Any] = {name: {"value": generation / 10, "of": 100} for name, _, _ in ROWS}
    return {
        "generation": generation,
        "retained": 90,
        "forgotten": 10,
        "poisoned": 0,
        "models": f"models {generation}",
        "list": {"applied": True, "listed": 10, "already_gone": 0, "sha256": listed},
        "backdoor": {"target_class": "cat", "trigger": {"size": 3}},
        "cells": {**known, **cells},
    }


def plan(*rows: tuple[int, int]) -> dict[str, Any]:
    """Shards of three slices: how many of them are stale, and the sample-epochs that takes."""
    return {
        "sample_epochs": sum(epochs for _, epochs in rows),
        "full_sample_epochs": 600,
        "shards": [
            {"shard": shard, "slices": 3, "retrain_slices": list(range(stale)), "sample_epochs": epochs}
            for shard, (stale, epochs) in enumerate(rows)
        ],
    }


def run(folder: Path, shard: int, sample_epochs: int, seconds: float) -> None:
    text = json.dumps({"sample_epochs": sample_epochs, "train_seconds": seconds})
    (folder / f"shard-{shard}.json").write_text(text)


def test_the_cost_is_that_of_the_shards_that_were_retrained(tmp_path: Path) -> None:
    run(tmp_path, 0, 300, 99.0)  # of an earlier generation
    run(tmp_path, 1, 120, 2.5)
    run(tmp_path, 2, 80, 1.5)
    assert cost(plan((0, 0), (2, 120), (1, 80)), tmp_path) == {
        "shards": {"value": 2, "of": 3},
        "slices": {"value": 3, "of": 9},
        "sample_epochs": {"value": 200, "of": 600},
        "seconds": {"value": 4.0},
    }


def test_seconds_of_an_interrupted_training_are_absent(tmp_path: Path) -> None:
    run(tmp_path, 0, 70, 2.0)  # the rest, after a kill
    cells = cost(plan((2, 120)), tmp_path)
    assert "interrupted" in cells["seconds"]["absent"]
    assert cells["sample_epochs"]["value"] == 120


def test_a_cell_is_the_number_with_its_interval_or_the_reason() -> None:
    report = {"a": {"auc": 0.5, "interval": [0.4, 0.6], "samples": 3}, "b": {"absent": "none"}}
    assert cell(report, "a", value="auc") == {"value": 0.5, "interval": [0.4, 0.6]}
    assert cell(report, "b", value="auc") == {"absent": "none"}
    assert cell({"absent": "no list"}, "a", value="auc") == {"absent": "no list"}
    assert cell({"absent": {"reference": "too few"}}, "reference", value="accuracy") == {"absent": "too few"}


def test_only_the_generation_before_is_remembered() -> None:
    history = remember([], evidence(1))
    history = remember(history, evidence(2))
    history = remember(history, evidence(3))
    assert [each["generation"] for each in history] == [2, 3]


def test_looking_again_at_a_generation_keeps_the_one_before_it_and_what_it_cost() -> None:
    history = remember([evidence(1)], evidence(2, sample_epochs={"value": 70, "of": 100}))
    again = evidence(2, accuracy_mean={"value": 0.9}, sample_epochs={"value": 0, "of": 100}, seconds={"value": 0})
    history = remember(history, again)
    assert [each["generation"] for each in history] == [1, 2]
    assert history[-1]["cells"]["accuracy_mean"] == {"value": 0.9}
    assert history[-1]["cells"]["sample_epochs"] == {"value": 70, "of": 100}


def test_a_generation_of_the_same_models_cost_nothing() -> None:
    # Another default aggregation, say: the plan and the trainers' reports are still those of the training before.
    cost: dict[str, Any] = {"sample_epochs": {"value": 70, "of": 100}, "seconds": {"value": 9.0}}
    history = remember(remember([], evidence(1, **cost)), {**evidence(2, **cost), "models": "models 1"})
    assert [each["cells"]["sample_epochs"] for each in history] == [{"value": 70, "of": 100}, {"value": 0, "of": 100}]
    assert history[-1]["cells"]["seconds"] == {"value": 0}
    again = remember(history, {**evidence(2, **cost), "models": "models 1"})
    assert again == history
    # A generation between, which was never reported, may have had other models: then these were trained.
    later = remember(history, {**evidence(4, **cost), "models": "models 1"})
    assert later[-1]["cells"]["sample_epochs"] == {"value": 70, "of": 100}


def test_a_workspace_that_was_begun_anew_has_a_cost_and_no_before_of_its_own() -> None:
    old: dict[str, Any] = {"sample_epochs": {"value": 70, "of": 100}}
    new: dict[str, Any] = {"sample_epochs": {"value": 900, "of": 900}}
    history = remember([evidence(1, **old)], {**evidence(1, **new), "models": "others"})
    assert [each["cells"]["sample_epochs"] for each in history] == [{"value": 900, "of": 900}]
    assert "is the first that was reported here" in before(history)["accuracy_mean"]["absent"]


def test_a_history_of_an_earlier_version_is_read_as_far_as_it_goes() -> None:
    earlier = evidence(1)
    del earlier["models"], earlier["backdoor"], earlier["list"]["already_gone"]
    history = remember([earlier], evidence(2))
    assert before(history)["attack_success"] == {"value": 0.1, "of": 100}
    assert [each["generation"] for each in remember([earlier], evidence(1))] == [1]


def test_seconds_stand_beside_those_of_the_last_full_training() -> None:
    full: dict[str, Any] = {"sample_epochs": {"value": 100, "of": 100}, "seconds": {"value": 50.0}}
    part: dict[str, Any] = {"sample_epochs": {"value": 20, "of": 100}, "seconds": {"value": 10.0}}
    killed: dict[str, Any] = {"sample_epochs": {"value": 100, "of": 100}, "seconds": {"absent": "interrupted"}}
    history: list[Any] = []
    shown = []
    for generation, cells in enumerate((part, full, part, killed, part), start=1):
        history = remember(history, evidence(generation, **cells))
        shown.append(history[-1]["cells"]["seconds"])
    assert shown == [
        {"value": 10.0},
        {"value": 50.0, "of": 50.0},
        {"value": 10.0, "of": 50.0},
        {"absent": "interrupted"},
        {"value": 10.0},  # the last full training may have been of another recipe, and was not timed
    ]


def test_before_is_the_previous_generations_evidence() -> None:
    column = before([evidence(1), evidence(2)])
    assert {name: each["value"] for name, each in column.items()} == {name: 0.1 for name, _, _ in ROWS}


def test_without_a_generation_before_there_is_no_number_but_the_reason() -> None:
    column = before([evidence(4)])
    assert {each["absent"] for each in column.values()} == {"generation 4 is the first that was reported here"}
    assert column.keys() == {name for name, _, _ in ROWS}


def test_before_shows_no_attack_on_another_list() -> None:
    column = before([evidence(1, listed="nobody"), evidence(2, listed="somebody")])
    assert "generation 1 was attacked on another list" in column["loss_auc"]["absent"]
    assert column["accuracy_mean"] == {"value": 0.1, "of": 100}

    now_none = evidence(2, listed="nobody", loss_auc={"absent": "no list"}, ratio_auc={"absent": "no list"})
    column = before([evidence(1, listed="somebody", ratio_auc={"absent": "two shards"}), now_none])
    assert "generation 1 was attacked on another list" in column["loss_auc"]["absent"]
    assert column["ratio_auc"] == {"absent": "two shards"}  # nothing in either: the reason that it always had


def test_before_shows_no_success_of_another_trigger() -> None:
    another = {**evidence(1), "backdoor": {"target_class": "dog", "trigger": {"size": 3}}}
    column = before([another, evidence(2)])
    for name in ("attack_success", "attack_floor", "attack_recovery"):
        assert "generation 1 was tried with another trigger or target class" in column[name]["absent"]
    assert column["loss_auc"] == {"value": 0.1, "of": 100}


def test_evidence_of_an_earlier_version_has_a_reason_in_the_rows_it_did_not_know() -> None:
    earlier = evidence(1)
    del earlier["cells"]["attack_recovery"]
    column = before([earlier, evidence(2)])
    assert column["attack_recovery"] == {"absent": "not measured by the version that made this column"}
    assert column["accuracy_mean"] == {"value": 0.1, "of": 100}


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ({"value": 0.5, "interval": [0.4, 0.61]}, "share", "0.500 [0.400, 0.610]"),
        ({"value": 0.5, "spread": 0.02}, "share", "0.500 ± 0.020"),
        ({"value": 3, "of": 25}, "count", "3 of 25"),
        ({"value": 1500, "of": 6000}, "count", "1,500 of 6,000 (25.0%)"),
        ({"value": 1234.56}, "seconds", "1,234.6"),
        ({"value": 250.0, "of": 1000.0}, "seconds", "250.0 of 1,000.0 (25.0%)"),
        ({"value": 1500.25, "spread": 12.0}, "count", "1,500 ± 12"),
        ({"value": 4.5, "spread": 0.7}, "count", "4.5 ± 0.7"),
        ({"absent": "reason"}, "share", "–"),
    ],
)
def test_how_a_cell_is_written(value: dict[str, Any], kind: str, expected: str) -> None:
    assert in_words(value, kind) == expected


def test_one_reason_is_one_note_however_often_it_holds() -> None:
    absent: dict[str, Any] = {name: {"absent": "why"} for name, _, _ in ROWS}
    table = Table("", {"before": absent, "after": {**absent, "seconds": {"absent": "other"}}})
    notes = [[note for _, _, note in cells] for _, cells in table.rows()]
    assert notes[0] == [1, 1]
    assert notes[-1] == [1, 2]
    assert table.notes == ["why", "other"]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.45, 0.55), "finds no difference between forgotten and never seen samples"),
        ((0.51, 0.55), "finds forgotten samples more familiar than never seen ones"),
        ((0.41, 0.45), "finds forgotten samples less familiar than never seen ones"),
    ],
)
def test_the_verdict_says_what_the_interval_says(interval: tuple[float, float], expected: str) -> None:
    now = evidence(1, loss_auc={"value": 0.5, "interval": interval})
    now["cells"] |= {"attack_success": {"absent": "no trigger"}, "ratio_auc": {"absent": "two shards"}}
    (sentence,) = verdict(now)
    assert sentence.startswith(f"The attack by loss {expected}")


def test_the_verdict_on_few_samples_is_that_they_are_few() -> None:
    now = evidence(1, loss_auc={"value": 0.93})
    now["cells"] |= {"attack_success": {"absent": "no trigger"}, "ratio_auc": {"absent": "two shards"}}
    assert verdict(now) == ["The attack by loss has too few samples to say anything (AUC 0.930)."]


def test_watched_samples_that_are_gone_from_the_source_are_not_trained_on() -> None:
    now = evidence(1, loss_auc={"absent": "none"}, ratio_auc={"absent": "none"}, attack_success={"absent": "none"})
    now["list"] |= {"applied": False, "listed": 5, "already_gone": 3}
    assert verdict(now) == ["2 listed samples are only watched: they are still trained on."]


def test_the_verdict_on_poisoned_samples_says_what_an_attack_by_loss_cannot_tell() -> None:
    now = evidence(1, loss_auc={"value": 0.02, "interval": (0.01, 0.03)})
    now["cells"] |= {"attack_success": {"value": 0.024}, "attack_floor": {"value": 0.025}}
    now["cells"]["ratio_auc"] = {"absent": "two shards"}
    now |= {"poisoned": 0, "list": {**now["list"], "listed": 500}}
    loss, backdoor, reading = verdict(now)
    assert "less familiar" in loss
    assert backdoor == (
        "A backdoor was planted, all of it is forgotten: the trigger turns 2.4% of the other classes' test pictures "
        "into its class, 2.5% are taken for it without the trigger."
    )
    assert reading == POISONED_LIST
