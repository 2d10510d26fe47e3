"""The command `sisa`: what a drill is asked to do, and two drills carried out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL, Workspace

from training import command
from training.command import by_hash
from training.evaluation.drills import begin
from training.params import ParamsError
from training.stage import StageError

Create = Callable[..., Workspace]

DRILL = 1800  # seconds that several runs of DVC may take on a busy machine


class Asked(dict[str, Any]):
    """What `run_drill` was called with."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    calls = Asked()

    def record(name: str, params: Any, sample_ids: list[str], **more: Any) -> None:
        calls.update(name=name, params=params, sample_ids=sample_ids, **more)

    monkeypatch.setattr(command, "run_drill", record)
    monkeypatch.setattr(command, "run_dvc", lambda folder, *arguments: calls.update(dvc=(folder, *arguments)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SMALL))
    (tmp_path / "forget").mkdir()
    return calls


def sisa(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["sisa", *arguments])
    command.app(standalone_mode=False)


def test_a_backdoor_drill_poisons_one_percent_and_forgets_all_of_it(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    sisa(monkeypatch, "drill", "backdoor")
    assert asked["params"].poison.samples == len(asked["sample_ids"]) == 14  # of 1442
    assert (asked["name"], asked["steps"]) == ("backdoor", ("before", "after"))


def test_of_what_is_found_in_part_that_share_is_forgotten(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    sisa(monkeypatch, "drill", "backdoor", "--samples", "50")
    poisoned = set(asked["sample_ids"])
    sisa(monkeypatch, "drill", "backdoor", "--samples", "50", "--found", "0.8")
    assert len(asked["sample_ids"]) == 40
    assert set(asked["sample_ids"]) < poisoned
    assert asked["story"]["command"] == "sisa drill backdoor --samples 50 --found 0.8"


def test_the_options_of_a_drill_take_the_place_of_the_parameters(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--no-relabel", "--value", "0", "--position", "random", "--size", "3", "--seed", "5", "--name", "black"]
    sisa(monkeypatch, "drill", "backdoor", *options)
    poison = asked["params"].poison
    assert (poison.relabel, poison.trigger.value, poison.trigger.position, poison.trigger.size) == (
        False,
        0,
        "random",
        3,
    )
    assert (asked["params"].seed, asked["name"]) == (5, "black")


def test_an_impossible_option_is_named(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match=r"poison\.trigger\.position: .*found 'middle'"):
        sisa(monkeypatch, "drill", "backdoor", "--position", "middle")
    with pytest.raises(StageError, match="of 14 poisoned samples none would be found"):
        sisa(monkeypatch, "drill", "backdoor", "--found", "0.01")


def test_a_forget_drill_draws_samples_by_the_seed(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*options: str) -> list[str]:
        sisa(monkeypatch, "drill", "forget", *options)
        ids: list[str] = asked["sample_ids"]
        return ids

    first = drawn("--samples", "20")
    assert len(set(first)) == 20
    assert asked["steps"] == ("before", "after", "retrained")
    assert drawn("--samples", "20") == first
    assert drawn("--samples", "30")[:20] == first
    assert drawn("--samples", "20", "--seed", "1") != first
    with pytest.raises(StageError, match="there are 1442 to train on, and some must stay"):
        drawn("--samples", "1442")


def test_what_is_forgotten_is_not_trained_on_again_unless_that_is_asked_for(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("forget/requests.txt").write_text("3\n5\n")
    for drill in (("backdoor",), ("forget", "--samples", "3")):
        with pytest.raises(StageError, match=r"name 2 samples that are still in the source.*--include-forgotten"):
            sisa(monkeypatch, "drill", *drill)
        assert not asked
        sisa(monkeypatch, "drill", *drill, "--include-forgotten")
        assert asked["sample_ids"]
        asked.clear()
    Path("params.yaml").write_text(yaml.safe_dump({**SMALL, "forget": {"apply": False}}))
    sisa(monkeypatch, "drill", "backdoor")  # what is only watched is trained on anyhow
    assert asked["sample_ids"]


def test_a_report_that_is_there_is_made_anew_with_the_drill(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    sisa(monkeypatch, "drill", "backdoor")
    assert "dvc" not in asked
    Path("reports").mkdir()
    Path("reports/report.html").touch()
    sisa(monkeypatch, "drill", "backdoor", "--fresh")
    assert asked["dvc"] == (Path(), "repro", "--single-item", "report")
    assert asked["story"]["command"] == "sisa drill backdoor"  # what goes on with it, and what repeats it elsewhere


def test_the_order_by_hash_depends_on_seed_and_purpose() -> None:
    ids = [str(number) for number in range(50)]
    orders = [by_hash(ids, seed, purpose) for seed in (0, 1) for purpose in ("found", "forgotten")]
    assert all(sorted(order) == sorted(ids) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".", "-x"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SMALL))
    (tmp_path / "forget").mkdir()
    with pytest.raises(StageError, match="it names a file and a folder"):
        sisa(monkeypatch, "drill", "forget", "--samples", "3", f"--name={name}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forget", "params.yaml"]


def test_outside_of_a_project_a_drill_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r"training is missing; start drills in the project's folder"):
        begin(Path(".drills/x"), {}, fresh=False)


def result(workspace: Workspace, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.folder / f"reports/drills/{name}.json").read_text())
    return document


def value(drill: dict[str, Any], step: str, cell: str) -> Any:
    return drill["columns"][step]["cells"][cell]["value"]


@pytest.mark.pipeline
def test_a_forget_drill_leaves_the_project_alone_and_equals_training_from_scratch(create: Create) -> None:
    project = create("project", sisa__shards=[0, 1], sisa__slices=1)
    before = project.contents(".")
    out = project.run("sisa", "drill", "forget", "--samples", "30", seconds=DRILL).stdout
    after = project.contents(".")
    made = {path for path in after if after[path] != before.get(path)}
    assert before.keys() <= after.keys()
    assert {path for path in made if not path.startswith(".drills/")} == {"reports/drills/forget.json"}
    assert project.run("git", "status", "--short").stdout == "?? reports/drills/forget.json\n"

    drill = result(project, "forget")
    assert [drill["columns"][step]["retained"] for step in ("before", "after", "retrained")] == [1442, 1412, 1412]
    assert [drill["columns"][step]["list"]["applied"] for step in ("before", "after", "retrained")] == [
        False,
        True,
        True,
    ]
    assert drill["identical"] == {"shards": 2, "of": 2}
    for cell in ("accuracy_mean", "forget_accuracy", "loss_auc", "reference_attack"):
        assert drill["columns"]["after"]["cells"][cell] == drill["columns"]["retrained"]["cells"][cell]
    assert value(drill, "before", "sample_epochs") == 1442
    assert "2 of 2 shards" in out

    # The same command again finds all steps done; what is missing is made up for, and nothing else.
    assert project.run("sisa", "drill", "forget", "--samples", "30").stdout.count("done before") == 3
    (project.folder / ".drills/forget/after.json").unlink()
    out = project.run("sisa", "drill", "forget", "--samples", "30").stdout
    assert out.count("done before") == 2
    assert "Running stage 'train" not in out
    assert result(project, "forget") == drill

    done = project.run("sisa", "drill", "forget", "--samples", "31", check=False)
    assert done.returncode == 1
    assert "was begun with other settings or code" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.pipeline
def test_a_backdoor_works_until_its_samples_are_forgotten(create: Create) -> None:
    changes = {"training__epochs_per_slice": 12, "training__augmentation": "none"}
    project = create("project", sisa__shards=[0, 1], sisa__slices=1, **changes)
    project.run("sisa", "drill", "backdoor", "--samples", "150", "--size", "3", seconds=DRILL)
    drill = result(project, "backdoor")
    assert [drill["columns"][step]["poisoned"] for step in ("before", "after")] == [150, 0]
    assert value(drill, "before", "accuracy_mean") > 0.9
    assert value(drill, "before", "attack_success") > 0.8
    assert value(drill, "before", "attack_floor") < 0.1
    assert value(drill, "after", "attack_success") < 0.2
    assert value(drill, "after", "accuracy_mean") > 0.9
