"""The pages of published drills, from results written down by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL

from benchmarks.drill_pages import backdoors, forgetting, write_pages
from training.errors import DrillError
from training.report.cells import ROWS
from training.report.drill_results import BackdoorResult, ForgetResult, Step, read_drills

RECIPE = {part: SMALL[part] for part in ("data", "sisa", "network", "training", "poison")}


def document(kind: str, seed: int, values: dict[Step, float], recipe: dict[str, Any]) -> dict[str, Any]:
    """A drill whose cells of a column all have one value."""
    return {
        "name": f"{kind}-{seed}",
        "title": "A drill",
        "seed": seed,
        "command": f"sisa drill {kind} --seed {seed}",
        "recipe": recipe,
        "environment": {"python": "3.11.7", "torch": "2.15.0", "machine": "Linux, 2 cores"},
        "columns": {
            step: {"cells": {row.name: {"value": value, "of": 10} for row in ROWS}} for step, value in values.items()
        },
    }


def forget(seed: int, values: dict[Step, float], samples: int = 5) -> ForgetResult:
    return ForgetResult(**document("forget", seed, values, RECIPE), samples=samples)


def backdoor(seed: int, found: float = 1.0, **recipe: Any) -> BackdoorResult:
    values: dict[Step, float] = {"before": 0.9, "after": 0.1}
    return BackdoorResult(**document("backdoor", seed, values, {**RECIPE, **recipe}), found=found)


def test_seeds_are_put_together_as_mean_and_standard_deviation() -> None:
    # 0.4 and 0.6: mean 0.5, standard deviation √(0.01 + 0.01) = 0.141.
    page = forgetting(
        [
            forget(seed, {"before": value, "after": value, "retrained": value}, samples=500)
            for seed, value in ((0, 0.4), (1, 0.6))
        ]
    )
    assert "| attack by the ensemble's loss, AUC | 0.500 ± 0.141 | 0.500 ± 0.141 | 0.500 ± 0.141 |" in page.splitlines()
    assert "sisa drill forget --seed 0\nsisa drill forget --seed 1\n" in page
    assert "Made with seeds 0, 1, python 3.11.7, torch 2.15.0, machine Linux, 2 cores, and these parameters:" in page
    assert "backdoor" not in page


def test_drills_of_different_size_are_different_tables() -> None:
    page = forgetting([forget(0, {"before": 0.5, "after": 0.5}, samples=samples) for samples in (5, 500)])
    assert page.count("| | before | after | retrained from scratch |") == 2
    assert "| accuracy, majority vote | 0.500 | 0.500 | – (1) |" in page
    assert page.count("(1) this drill trains no reference from scratch") == 2


def test_what_is_absent_for_a_seed_is_absent_with_the_reason_and_the_seed() -> None:
    values: dict[Step, float] = {"before": 0.5, "after": 0.5, "retrained": 0.5}
    complete, other = forget(0, values), document("forget", 7, values, RECIPE)
    other["columns"]["after"]["cells"]["loss_auc"] = {"absent": "too few"}
    page = forgetting([complete, ForgetResult(**other, samples=5)])
    assert "| attack by the ensemble's loss, AUC | 0.500 | – (1) | 0.500 |" in page
    assert "(1) forget-7: too few\n" in page


def test_a_page_holds_the_parameters_and_no_seconds_of_a_busy_machine() -> None:
    page = forgetting([forget(0, {"before": 0.5, "after": 0.5})])
    params = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    assert params == {part: SMALL[part] for part in ("data", "sisa", "network", "training")}
    assert "seconds" not in page


def test_a_backdoor_is_a_row_with_its_setting() -> None:
    page = backdoors([backdoor(0, found=0.8)])
    (row,) = [line for line in page.splitlines() if line.startswith("| backdoor-0 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    setting = ["backdoor-0", "0 samples of other classes, relabelled 0", "2 × 2, grey 255, bottom-right", "80%"]
    assert cells == [*setting, *["0.900 → 0.100"] * 4]
    assert "Made with seed 0, python 3.11.7, torch 2.15.0, machine Linux, 2 cores, and these parameters:" in page
    head = next(line for line in page.splitlines() if line.startswith("| drill"))
    assert len(cells) == head.strip("|").count("|") + 1


def test_backdoors_of_one_recipe_are_one_table() -> None:
    page = backdoors(
        [
            backdoor(0),
            backdoor(1, poison={**SMALL["poison"], "relabel": False}),
            backdoor(2, training={**SMALL["training"], "epochs_per_slice": 9}),
        ]
    )
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## digits, resnet9, 3 shards × 3 slices × 1 epoch",
        "## digits, resnet9, 3 shards × 3 slices × 9 epochs",
    ]
    assert page.count("| 0 samples of class 0 |") == 1
    assert "sisa drill backdoor --seed 0\nsisa drill backdoor --seed 1\n```" in page
    assert backdoors([backdoor(0, found=0.998)]).count("| 99.8% |") == 1


def test_what_was_written_by_hand_is_kept(tmp_path: Path) -> None:
    (tmp_path / "drills").mkdir()
    file = tmp_path / "drills/forget.json"
    file.write_bytes(forget(0, {"before": 0.5, "after": 0.5}).to_bytes())
    page, _ = write_pages(tmp_path)
    first = page.read_text()
    page.write_text(f"{first}Reading: it forgets.\n")
    file.write_bytes(forget(0, {"before": 0.5, "after": 0.5}, samples=6).to_bytes())
    write_pages(tmp_path)
    assert page.read_text() == first.replace("## 5 samples", "## 6 samples") + "Reading: it forgets.\n"

    page.write_text("Not a word about where the hand begins.\n")
    with pytest.raises(DrillError, match=r"forgetting\.md has no line .*Written by hand"):
        write_pages(tmp_path)
    assert page.read_text() == "Not a word about where the hand begins.\n"


def test_pages_are_written_for_the_drills_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DrillError, match="holds no drill's result"):
        write_pages(tmp_path)
    (tmp_path / "drills").mkdir()
    (tmp_path / "drills/forget.json").write_bytes(forget(0, {"before": 0.5, "after": 0.5}).to_bytes())
    assert write_pages(tmp_path) == [tmp_path / "forgetting.md", tmp_path / "forgetting.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drills", "forgetting.md", "forgetting.svg"]
    assert "reference attack on the forget set" in (tmp_path / "forgetting.svg").read_text()
    assert "](forgetting.svg)" in (tmp_path / "forgetting.md").read_text()


def test_the_published_pages_are_those_of_the_published_drills() -> None:
    results = Path(__file__).parents[1] / "docs/results"
    drills = read_drills(results / "drills")
    for name, page in (
        ("forgetting", forgetting([drill for drill in drills if isinstance(drill, ForgetResult)])),
        ("backdoor", backdoors([drill for drill in drills if isinstance(drill, BackdoorResult)])),
    ):
        assert (results / f"{name}.md").read_text().startswith(page)


def test_a_file_that_is_not_a_drills_result_is_named(tmp_path: Path) -> None:
    for text, message in (
        ("{", r"x\.json is not the result of a drill \(Invalid JSON"),
        ("{}", r"x\.json is not the result of a drill \(Unable to extract tag using discriminator 'drill'"),
        ('{"drill": "other"}', r"'other' .* does not match any of the expected tags: 'forget', 'backdoor'"),
        ('{"drill": "forget"}', r"forget\.samples: Field required"),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DrillError, match=message):
            read_drills(tmp_path)
