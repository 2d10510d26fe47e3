"""The pages of results, from drills written down by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL

from training.evaluation.drills import read_drills
from training.evaluation.evidence import ROWS
from training.evaluation.results import backdoors, forgetting, write_results
from training.files import json_bytes
from training.stage import StageError


def drill(kind: str, seed: int, values: dict[str, float], **more: Any) -> dict[str, Any]:
    """A drill whose cells of a column all have one value."""
    columns = {
        step: {"cells": {name: {"value": value, "of": 10} for name, _, _ in ROWS}} for step, value in values.items()
    }
    return {
        "drill": kind,
        "name": f"{kind}-{seed}",
        "title": "A drill",
        "seed": seed,
        "command": f"sisa drill {kind} --seed {seed}",
        "recipe": {part: SMALL[part] for part in ("data", "sisa", "network", "training", "poison")},
        "environment": {"python": "3.11.7", "torch": "2.15.0", "machine": "Linux, 2 cores"},
        "columns": columns,
        **more,
    }


def test_seeds_are_put_together_as_mean_and_standard_deviation() -> None:
    # 0.4 and 0.6: mean 0.5, standard deviation √(0.01 + 0.01) = 0.141.
    runs = [
        drill("forget", seed, {"before": value, "after": value, "retrained": value}, samples=500)
        for seed, value in ((0, 0.4), (1, 0.6))
    ]
    page = forgetting(runs)
    assert "| attack by the ensemble's loss, AUC | 0.500 ± 0.141 | 0.500 ± 0.141 | 0.500 ± 0.141 |" in page.splitlines()
    assert "sisa drill forget --seed 0\nsisa drill forget --seed 1\n" in page
    assert "Made with seeds 0, 1, python 3.11.7, torch 2.15.0, machine Linux, 2 cores, and these parameters:" in page
    assert "backdoor" not in page


def test_drills_of_different_size_are_different_tables() -> None:
    runs = [drill("forget", 0, {"before": 0.5, "after": 0.5}, samples=samples) for samples in (5, 500)]
    page = forgetting(runs)
    assert page.count("| | before | after | retrained from scratch |") == 2
    assert "| accuracy, majority vote | 0.500 | 0.500 | – (1) |" in page
    assert page.count("(1) this drill trains no reference from scratch") == 2


def test_what_is_absent_for_a_seed_is_absent_with_the_reason_and_the_seed() -> None:
    runs = [drill("forget", seed, {"before": 0.5, "after": 0.5, "retrained": 0.5}, samples=5) for seed in (0, 7)]
    runs[1]["columns"]["after"]["cells"]["loss_auc"] = {"absent": "too few"}
    page = forgetting(runs)
    assert "| attack by the ensemble's loss, AUC | 0.500 | – (1) | 0.500 |" in page
    assert "(1) forget-7: too few\n" in page


def test_a_page_holds_the_parameters_and_no_seconds_of_a_busy_machine() -> None:
    page = forgetting([drill("forget", 0, {"before": 0.5, "after": 0.5}, samples=5)])
    params = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    assert params == {part: SMALL[part] for part in ("data", "sisa", "network", "training")}
    assert "seconds" not in page


def test_a_file_that_is_no_drills_result_is_named(tmp_path: Path) -> None:
    for text, message in (
        ("{", r"x\.json is damaged"),
        ("{}", r"x\.json is not the result of a drill \(: Unable to extract tag using discriminator 'drill'"),
        ('{"drill": "other"}', r"'other' .* does not match any of the expected tags: 'forget', 'backdoor'"),
        ('{"drill": "forget"}', r"forget\.samples: Field required"),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(StageError, match=message) as error:
            read_drills(tmp_path)
        assert "delete it and run" not in str(error.value)  # no `dvc repro` brings a drill back


def test_a_backdoor_is_a_row_with_its_setting() -> None:
    run = drill("backdoor", 0, {"before": 0.9, "after": 0.1}, found=0.8)
    page = backdoors([run])
    (row,) = [line for line in page.splitlines() if line.startswith("| backdoor-0 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    setting = ["backdoor-0", "0 pictures of other classes, relabelled 0", "2 × 2, grey 255, bottom-right", "80%"]
    assert cells == [*setting, *["0.900 → 0.100"] * 4]
    assert "Made with seed 0, python 3.11.7, torch 2.15.0, machine Linux, 2 cores, and these parameters:" in page
    head = next(line for line in page.splitlines() if line.startswith("| drill"))
    assert len(cells) == head.strip("|").count("|") + 1


def test_backdoors_of_one_recipe_are_one_table() -> None:
    runs = [drill("backdoor", seed, {"before": 0.9, "after": 0.1}, found=1.0) for seed in range(3)]
    runs[1]["recipe"] = {**runs[1]["recipe"], "poison": {**SMALL["poison"], "relabel": False}}
    runs[2]["recipe"] = {**runs[2]["recipe"], "training": {**SMALL["training"], "epochs_per_slice": 9}}
    page = backdoors(runs)
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## digits, resnet9, 3 shards × 3 slices × 1 epochs",
        "## digits, resnet9, 3 shards × 3 slices × 9 epochs",
    ]
    assert page.count("| 0 pictures of class 0 |") == 1
    assert backdoors([drill("backdoor", 0, {"before": 0.9, "after": 0.1}, found=0.998)]).count("| 99.8% |") == 1
    assert "sisa drill backdoor --seed 0\nsisa drill backdoor --seed 1\n```" in page


def test_what_was_written_by_hand_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs/results/drills").mkdir(parents=True)
    run = drill("forget", 0, {"before": 0.5, "after": 0.5}, samples=5)
    Path("docs/results/drills/forget.json").write_bytes(json_bytes(run))
    page, _ = write_results()
    first = page.read_text()
    page.write_text(f"{first}Reading: it forgets.\n")
    Path("docs/results/drills/forget.json").write_bytes(json_bytes({**run, "samples": 6}))
    write_results()
    assert page.read_text() == first.replace("## 5 samples", "## 6 samples") + "Reading: it forgets.\n"

    page.write_text("Not a word of where the hand begins.\n")
    with pytest.raises(StageError, match=r"forgetting\.md has no line .*Written by hand"):
        write_results()
    assert page.read_text() == "Not a word of where the hand begins.\n"


def test_pages_are_written_for_the_drills_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match="holds no drill's result"):
        write_results()
    Path("docs/results/drills").mkdir(parents=True)
    run = drill("forget", 0, {"before": 0.5, "after": 0.5}, samples=5)
    Path("docs/results/drills/forget.json").write_bytes(json_bytes(run))
    assert write_results() == [Path("docs/results/forgetting.md"), Path("docs/results/forgetting.svg")]
    written = sorted(path.name for path in Path("docs/results").iterdir())
    assert written == ["drills", "forgetting.md", "forgetting.svg"]
    picture = Path("docs/results/forgetting.svg").read_text()
    assert "reference attack on the forget list" in picture
    assert "](forgetting.svg)" in Path("docs/results/forgetting.md").read_text()
