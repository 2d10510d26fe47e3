"""Drills: which samples they forget, the workspaces they run in, and the story they tell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MODELS, Project, run_stages

from training.data.forget_list import ids_digest
from training.drills.choice import Chosen, backdoor_drill, drawn, forget_drill
from training.drills.drill import Drill, run_drill
from training.drills.dvc import rebuild_report
from training.drills.project_copy import DVC_CONFIG, begin
from training.errors import DrillError, ParamsError
from training.report.cells import Value
from training.report.drill_results import (
    ATTACKS,
    QUICK,
    RETRAINING,
    DrillResult,
    ForgetResult,
    Identical,
    Step,
    read_drill,
    sentences_of,
)
from training.workspace import Workspace

Create = Callable[..., Project]

DRILL = 1800  # seconds that several runs of DVC may take on a busy machine
PUBLISHED = Path(__file__).parents[1] / "docs/results/drills"


@pytest.fixture
def project(create: Create) -> Project:
    return create("project", sisa__shards=[0, 1], sisa__slices=1)


def backdoor(project: Project, *, found: float = 1.0, include_forgotten: bool = False, **poison: object) -> Drill:
    trigger: dict[str, object] = {name: poison.pop(name) for name in ("value", "size", "position") if name in poison}
    return backdoor_drill(
        project.workspace,
        found=found,
        poison=poison,
        trigger=trigger,
        seed=None,
        name="backdoor",
        command="sisa drill backdoor",
        include_forgotten=include_forgotten,
    )


def forget(
    project: Project,
    samples: int | None = None,
    *,
    seed: int | None = None,
    name: str = "forget",
    include_forgotten: bool = False,
    cheat: bool = False,
    **chosen: Any,
) -> Drill:
    return forget_drill(
        project.workspace,
        Chosen(samples, **chosen),
        seed=seed,
        name=name,
        command="sisa drill forget",
        include_forgotten=include_forgotten,
        cheat=cheat,
    )


def test_a_backdoor_drill_poisons_one_percent_and_forgets_all_of_it(project: Project) -> None:
    drill = backdoor(project)
    assert drill.params.poison.samples == len(drill.sample_ids) == 14  # of 1442
    assert drill.steps == ("before", "after")
    assert drill.title == "Backdoor: 14 samples poisoned, 14 of them found and forgotten"


def test_of_what_is_found_in_part_that_share_is_forgotten(project: Project) -> None:
    everything, found = backdoor(project, samples=50), backdoor(project, samples=50, found=0.8)
    assert len(found.sample_ids) == 40
    assert set(found.sample_ids) < set(everything.sample_ids)
    with pytest.raises(DrillError, match="of 14 poisoned samples none would be found"):
        backdoor(project, found=0.01)


def test_options_take_the_place_of_the_parameters_and_none_changes_nothing(project: Project) -> None:
    poison = backdoor(project, relabel=False, value=0, position="random", size=None, samples=20).params.poison
    assert (poison.relabel, poison.samples, poison.target_class) == (False, 20, "0")
    assert poison.trigger.model_dump() == {"size": 2, "value": 0, "position": "random"}
    with pytest.raises(ParamsError, match=r"poison\.trigger\.position: .*found 'middle'"):
        backdoor(project, position="middle")


def test_a_forget_drill_draws_samples_by_the_seed_and_more_of_them_exchange_none(project: Project) -> None:
    first = forget(project, 20).sample_ids
    assert len(set(first)) == 20
    assert forget(project, 20).sample_ids == first
    assert forget(project, 30).sample_ids[:20] == first
    assert forget(project, 20, seed=1).sample_ids != first
    with pytest.raises(DrillError, match="1442 samples: there are 1442 to train on, and some must stay"):
        forget(project, 1442)


def test_draws_for_different_purposes_do_not_follow_one_another() -> None:
    ids = [str(number) for number in range(50)]
    orders = [drawn(ids, seed, purpose, 50) for seed in (0, 1) for purpose in ("drill found", "drill forgotten")]
    assert all(sorted(order) == sorted(ids) for order in orders)
    assert len(set(orders)) == 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_samples_of_a_published_drill_are_drawn_again(seed: int) -> None:
    published = read_drill(PUBLISHED / f"forget-seed-{seed}.json")
    ids = drawn(map(str, range(50_000)), seed, "drill forgotten", 500)  # CIFAR-10's
    before: Any = published.columns["before"]
    assert ids_digest(ids) == before.list["sha256"]


def test_what_is_forgotten_is_not_trained_on_again_unless_that_is_asked_for(project: Project) -> None:
    project.forget("3", "5")
    refused = r"name 2 samples that are still in the source.*--include-forgotten"
    with pytest.raises(DrillError, match=refused):
        backdoor(project)
    with pytest.raises(DrillError, match=refused):
        forget(project, 3)
    assert backdoor(project, include_forgotten=True).sample_ids
    assert forget(project, 3, include_forgotten=True).sample_ids
    project.change(forget__apply=False)
    assert backdoor(project).sample_ids  # what is only monitored is trained on anyhow


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".", "-x"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, project: Project) -> None:
    before = project.contents(".")
    with pytest.raises(DrillError, match="it names a file and a folder"):
        run_drill(project.workspace, forget(project, 3, name=name))
    assert project.contents(".") == before


def test_a_project_that_lacks_something_is_not_copied(project: Project) -> None:
    (project.folder / "dvc.yaml").unlink()
    with pytest.raises(DrillError, match=r"dvc\.yaml is missing; a drill copies it"):
        begin(project.workspace, project.folder / ".drills/x", ("unlearned",), {}, fresh=False)
    assert not (project.folder / ".drills").exists()


def test_a_drill_is_resumed_with_its_own_settings_and_code_alone(project: Project) -> None:
    home = project.folder / ".drills/x"

    def start(settings: dict[str, object], *, fresh: bool = False) -> None:
        begin(project.workspace, home, ("unlearned", "scratch"), settings, fresh)

    start({"ids": ["1"]})
    (home / "before.json").touch()
    start({"ids": ["1"]})
    assert (home / "before.json").exists()
    with pytest.raises(DrillError, match=r"begun with other settings or code; .*--fresh"):
        start({"ids": ["2"]})
    with (project.folder / "training/errors.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(DrillError, match="begun with other settings or code"):
        start({"ids": ["1"]})
    start({"ids": ["1"]}, fresh=True)
    assert not (home / "before.json").exists()
    assert (home / "scratch/training/errors.py").read_text().endswith("# changed\n")

    (home / "drill.json").write_text("{")
    with pytest.raises(DrillError, match=r"drill\.json is damaged .*--fresh"):
        start({"ids": ["1"]})


def test_workspaces_that_were_stopped_while_they_were_made_are_made_again(project: Project) -> None:
    home = project.folder / ".drills/x"
    (home / "unlearned/training").mkdir(parents=True)
    begin(project.workspace, home, ("unlearned",), {}, fresh=False)
    assert (home / "unlearned/training/params.py").is_file()


def values(result: DrillResult, step: Step) -> dict[str, float]:
    return {name: cell.value for name, cell in result.columns[step].cells.items() if isinstance(cell, Value)}


def in_process(workspace: Workspace, *stages: str) -> None:
    """What a drill asks DVC for, without DVC."""
    run_stages(workspace, *(MODELS[:3] if stages == ("schedule",) else (*MODELS, *stages)))


def test_a_forget_drill_equals_training_from_scratch_and_leaves_the_project_alone(project: Project) -> None:
    before, runs = project.contents("."), list[Workspace]()

    def run(workspace: Workspace, *stages: str) -> None:
        runs.append(workspace)
        in_process(workspace, *stages)

    result = run_drill(project.workspace, forget(project, 30), run=run)
    after = project.contents(".")
    assert {path for path in after.keys() | before.keys() if not path.startswith(".drills/")} == {
        *before,
        "reports/drills/forget.json",
    }
    assert [workspace.root.name for workspace in runs] == ["unlearned", "unlearned", "scratch"]
    columns: Any = result.columns
    assert [columns[step].retained for step in ("before", "after", "retrained")] == [1442, 1412, 1412]
    assert [columns[step].list["applied"] for step in ("before", "after", "retrained")] == [False, True, True]
    assert result.identical is not None
    assert (result.identical.shards, result.identical.of) == (2, 2)
    forgotten, retrained = values(result, "after"), values(result, "retrained")
    assert forgotten.keys() >= {"accuracy_mean", "forget_accuracy", "loss_auc", "reference_attack"}
    assert {name: forgotten[name] for name in forgotten if name != "seconds"} == {
        name: retrained[name] for name in retrained if name != "seconds"
    }
    assert values(result, "before")["sample_epochs"] == 1442
    assert read_drill(project.folder / "reports/drills/forget.json") == result

    # The same drill again finds all steps done; what is missing is made up for, and nothing else.
    assert run_drill(project.workspace, forget(project, 30), run=run) == result
    assert len(runs) == 3
    (project.folder / ".drills/forget/after.json").unlink()
    assert run_drill(project.workspace, forget(project, 30), run=run) == result
    assert len(runs) == 4
    with pytest.raises(DrillError, match="was begun with other settings or code"):
        run_drill(project.workspace, forget(project, 31), run=run)

    (project.folder / ".drills/forget/scratch/models/ensemble.json").unlink()
    with pytest.raises(DrillError, match=r"scratch/models/ensemble\.json is missing or damaged.*--fresh"):
        run_drill(project.workspace, forget(project, 30), run=run)
    (project.folder / ".drills/forget/after.json").write_text("{")
    with pytest.raises(DrillError, match=r"after\.json is damaged .*--fresh"):
        run_drill(project.workspace, forget(project, 30), run=run)


@pytest.mark.heavy
def test_a_backdoor_works_until_its_samples_are_forgotten(create: Create) -> None:
    changes = {"training__epochs_per_slice": 4, "training__learning_rate": 0.1, "training__augmentation": "none"}
    project = create("project", sisa__shards=[0, 1], sisa__slices=1, **changes)
    result = run_drill(project.workspace, backdoor(project, samples=150, size=3), run=in_process)
    columns: Any = result.columns
    assert [columns[step].poisoned for step in ("before", "after")] == [150, 0]
    before, after = values(result, "before"), values(result, "after")
    assert before["accuracy_mean"] > 0.9
    assert before["attack_success"] > 0.8
    assert before["attack_baseline"] < 0.1
    assert after["attack_success"] < 0.2
    assert after["accuracy_mean"] > 0.9


@pytest.mark.heavy
def test_models_that_did_not_forget_are_noticed_by_retraining_and_by_an_attack(create: Create) -> None:
    changes = {"training__epochs_per_slice": 8, "training__learning_rate": 0.1, "training__augmentation": "none"}
    project = create("project", sisa__slices=2, **changes)
    result = run_drill(project.workspace, forget(project, 40, how="memorised", cheat=True), run=in_process)
    assert isinstance(result, ForgetResult)
    assert result.identical == Identical(shards=3, of=3)
    assert result.control is not None
    assert result.control.shards == (0, 1, 2)
    lines = {line.name: line for line in result.control.lines}
    assert (lines[QUICK].after, lines[QUICK].cheated) == ("held", "held")  # no record tells
    assert (lines[RETRAINING].after, lines[RETRAINING].cheated) == ("held", "failed: shard 0, shard 1, shard 2")
    told = [name for name in ATTACKS if lines[name].told]
    assert told
    assert result.control.holds
    before, after, cheated = (values(result, step) for step in ("before", "after", "cheated"))
    for name in told:
        assert cheated[ATTACKS[name]] == before[ATTACKS[name]] > after[ATTACKS[name]] + 0.1
    both = result.both_generations
    assert both is not None
    assert isinstance(both.own_shard.auc, float)
    assert both.own_shard.auc > 0.8  # whoever kept the models from before sees what was deleted
    assert "noticed by sisa verify, attack by" in " ".join(sentences_of(result))


@pytest.mark.pipeline
def test_a_report_that_is_there_is_rebuilt_and_no_other(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(DVC_CONFIG)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  before: {cmd: touch stale, outs: [stale]}\n"
        "  report: {cmd: echo new > reports/report.html, deps: [stale], outs: [reports/report.html]}\n"
    )
    (tmp_path / "stale").touch()
    rebuild_report(project.workspace)
    assert not (tmp_path / "reports").exists()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/report.html").write_text("old\n")
    rebuild_report(project.workspace)
    assert (tmp_path / "reports/report.html").read_text() == "new\n"


@pytest.mark.heavy
@pytest.mark.pipeline
def test_the_command_tells_the_same_story_by_dvc(project: Project) -> None:
    project.with_git()
    command = ("sisa", "drill", "forget", "--samples", "30")
    out = project.run(*command, seconds=DRILL).stdout
    assert "2 of 2 shards" in out
    assert project.run("git", "status", "--short").stdout == "?? reports/drills/forget.json\n"
    result = json.loads((project.folder / "reports/drills/forget.json").read_text())
    assert result["command"] == "sisa drill forget --samples 30"
    assert result["identical"] == {"shards": 2, "of": 2}

    assert project.run(*command).stdout.count("done before") == 3
    (project.folder / ".drills/forget/after.json").unlink()
    out = project.run(*command).stdout
    assert out.count("done before") == 2
    assert "Running stage 'train" not in out
    assert json.loads((project.folder / "reports/drills/forget.json").read_text()) == result
