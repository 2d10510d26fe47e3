"""`sisa plan` says what the next run does, and the run then does that."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, Project
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from training.chain.plan import load_plan
from training.commands.app import app
from training.commands.plan import show
from training.errors import DamagedError, ForgetListError, SisaError
from training.evaluation.reports import Absent
from training.files import json_bytes
from training.forgetting.add import add
from training.forgetting.plan import RunCost, next_run, run_cost
from training.forgetting.speed import Speed
from training.forgetting.what_if import Costs, Month, batch, costs, month
from training.publish.record import load_record

Create = Callable[..., Project]
Trained = dict[int, tuple[list[int], int]]  # by shard: slices, and their sample-epochs; shards without any are left out


def planned(project: Project, *ids: str) -> RunCost:
    workspace = project.workspace
    return run_cost(workspace, next_run(workspace, ids))


def of_shards(run: RunCost) -> Trained:
    return {shard.shard: (list(shard.slices), shard.sample_epochs) for shard in run.shards if shard.slices}


def stamps(project: Project) -> dict[Path, tuple[int, int]]:
    paths = project.workspace.checkpoints_folder.rglob("*.safetensors")
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def carried_out(project: Project) -> Trained:
    """Run the pipeline; what was trained, by the checkpoints that were written and what the records say they took."""
    before = stamps(project)
    project.stages(*MODELS)
    new = {path for path, stamp in stamps(project).items() if before.get(path) != stamp}
    trained = {}
    for shard_id in project.workspace.read_params().sisa.shards:
        record = load_record(project.workspace.export_record(shard_id))
        paths = project.workspace.checkpoint_files(shard_id, record.keys)
        slices = [slice_id for slice_id, path in enumerate(paths) if path in new]
        if slices:
            trained[shard_id] = slices, sum(record.slices[slice_id].sample_epochs for slice_id in slices)
    return trained


def in_slice(project: Project, shard_id: int, slice_id: int) -> list[str]:
    shard = project.shard(shard_id)
    return [name for name, where in zip(shard.ids, shard.slices, strict=True) if where == slice_id]


def check_that_the_run_does_it(project: Project, *ids: str) -> RunCost:
    """Plan, list the ids, run; both agree on every slice and sample-epoch, and planning changed no file."""
    listed = (project.folder / "forget/requests.txt").read_text()
    before = project.contents(".")
    run = planned(project, *ids)
    assert project.contents(".") == before
    (project.folder / "forget/requests.txt").write_text(listed + "".join(f"{name}\n" for name in ids))
    trained = carried_out(project)
    assert of_shards(run) == trained
    assert run.sample_epochs == sum(sample_epochs for _, sample_epochs in trained.values())
    assert [shard.retained for shard in run.shards] == [len(project.shard(shard.shard)) for shard in run.shards]
    after = [load_plan(project.workspace.plan_file(shard.shard)) for shard in run.shards]
    assert run.full_sample_epochs == sum(plan.full_sample_epochs for plan in after)
    return run


def test_several_samples_of_one_shard(trained: Project) -> None:
    run = check_that_the_run_does_it(trained, trained.victim(1, 2), trained.victim(1, 1))
    assert [shard.forgotten for shard in run.shards] == [0, 2, 0]
    assert of_shards(run).keys() == {1}
    assert of_shards(run)[1][0] == [1, 2]


def test_samples_across_shards_beside_those_that_are_listed_already(trained: Project) -> None:
    trained.forget(trained.victim(0, 2))
    assert {shard: slices for shard, (slices, _) in of_shards(planned(trained)).items()} == {0: [2]}
    run = check_that_the_run_does_it(trained, trained.victim(1, 0), trained.victim(2, 1))
    assert {shard: slices for shard, (slices, _) in of_shards(run).items()} == {0: [2], 1: [0, 1, 2], 2: [1, 2]}
    assert run.forgotten == 3


def test_a_private_request_counts_as_a_list_does(trained: Project) -> None:
    first, second = trained.victim(0, 1), trained.victim(0, 2)
    add(trained.workspace, [first])
    run = check_that_the_run_does_it(trained, second)
    assert {shard: slices for shard, (slices, _) in of_shards(run).items()} == {0: [1, 2]}
    assert run.forgotten == 2


def test_a_subject_is_planned_as_a_whole(create: Create) -> None:
    project = create("project", sisa__shards=[0, 1], sisa__slices=2, data__subjects="data/subjects/people.csv")
    lines = [f"{number},{name}" for number in range(20) for name in [("ann", "bob")[number % 2]]]
    (project.folder / "data/subjects/people.csv").write_text("\n".join(["sample_id,subject", *lines]) + "\n")
    project.stages(*MODELS)
    shards = (project.shard(0), project.shard(1))
    held = sum(name in shard.ids for shard in shards for name in map(str, range(0, 20, 2)))
    assert held > 5  # the others are test samples
    run = check_that_the_run_does_it(project, "subject:ann")
    assert sorted(shard.forgotten for shard in run.shards) == [0, held]
    assert planned(project, "subject:ann").already_forgotten == 1
    with pytest.raises(ForgetListError, match=r"neither trained on.*\n  'subject:anna'$"):
        planned(project, "subject:anna")


def test_an_id_that_empties_a_slice_and_ids_that_empty_a_shard(trained: Project) -> None:
    *others, last = in_slice(trained, 2, 1)
    trained.forget(*others)
    trained.stages(*MODELS)
    run = check_that_the_run_does_it(trained, last)
    assert {shard: slices for shard, (slices, _) in of_shards(run).items()} == {2: [1, 2]}

    run = check_that_the_run_does_it(trained, *trained.shard(2).ids)
    assert of_shards(run) == {}
    assert run.shards[2].retained == 0
    assert run.forgotten == len(in_slice(trained, 2, 0)) + run.shards[2].forgotten


def test_what_is_forgotten_already_costs_nothing(trained: Project) -> None:
    victim = trained.victim(0, 0)
    trained.forget(victim)
    trained.stages(*MODELS)
    trained.forget()  # what is forgotten stays so, listed or not
    assert planned(trained, victim).already_forgotten == 1
    trained.forget(victim)
    run = check_that_the_run_does_it(trained, victim)
    assert (run.already_forgotten, run.forgotten, run.sample_epochs, run.share) == (1, 0, 0, 0)
    assert of_shards(run) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"training__learning_rate": 0.06},
        {"sisa__shards": [0, 1], "sisa__slices": 2},
        {"seed": 1, "data__image_size": 9},
    ],
)
def test_a_changed_recipe_or_placement_retrains_everything(trained: Project, change: dict[str, object]) -> None:
    trained.change(**change)
    run = check_that_the_run_does_it(trained, trained.victim(1, 1))
    assert run.share == 1
    assert run.forgotten == 1
    assert all(len(shard.slices) == trained.workspace.read_params().sisa.slices for shard in run.shards)


def test_a_checkpoint_that_is_missing_is_trained_again(trained: Project) -> None:
    (hole,) = trained.workspace.checkpoint_folder(2).glob("slice-01-*")
    hole.unlink()
    run = check_that_the_run_does_it(trained)
    assert {shard: slices for shard, (slices, _) in of_shards(run).items()} == {2: [1]}


def test_lists_that_are_only_monitored_retrain_nothing(trained: Project) -> None:
    trained.change(forget__apply=False)
    run = check_that_the_run_does_it(trained, trained.victim(0, 0))
    assert run.monitored
    assert (run.forgotten, run.sample_epochs) == (0, 0)


# What is asked for, and what is there.


def test_ids_that_nobody_knows_are_named_all_at_once(trained: Project) -> None:
    trained.forget("7")
    with pytest.raises(ForgetListError, match=r"neither trained on nor asked to be forgotten.*\n  '1442'\n  'cat'$"):
        planned(trained, "cat", trained.victim(0, 0), "1442", "7")


def test_a_deletion_of_everything_is_refused_as_partition_refuses_it(trained: Project) -> None:
    everything = [name for shard_id in range(3) for name in trained.shard(shard_id).ids]
    with pytest.raises(ForgetListError, match="nothing would be retained"):
        planned(trained, *everything)


def test_neither_source_nor_pictures_are_needed(create: Create, tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for split, count in (("train", 12), ("test", 2)):
        for name, grey in (("dark", 60), ("light", 200)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.full((9, 9, 3), grey + number, np.uint8)).save(root / split / name / f"{number}.png")
    project = create("project", data__source="imagefolder", data__root=str(root))
    project.stages("partition")
    shutil.rmtree(root)
    run = planned(project, "dark/3.png")
    assert (run.forgotten, run.share) == (1, 1)
    assert sum(shard.retained for shard in run.shards) == 23
    assert run.minutes == run.speed == Absent(absent="nothing that was trained is on record here yet")


def test_shard_files_that_are_missing_or_not_those_of_the_last_partition_are_named(trained: Project) -> None:
    workspace = trained.workspace
    trained.change(data__source="cifar10")
    with pytest.raises(DamagedError, match=r"the shard files hold samples of digits, data\.source is cifar10"):
        planned(trained)
    trained.change(data__source="digits")
    shutil.copy(workspace.shard_file(1), workspace.shard_file(0))
    with pytest.raises(DamagedError, match=r"shard-0\.npy holds .* samples, .*partition\.json says .* was interrupted"):
        planned(trained)
    workspace.shard_file(2).unlink()
    workspace.shard_file(0).unlink()
    done = trained.run("sisa", "plan", check=False)
    assert done.stderr == "error: data/shards/shard-0.npy is missing; run `dvc repro` (or `dvc pull`)\n"


# Minutes.


def pretend(project: Project, images_a_second: float, device: str = "cpu") -> None:
    """Records as if every slice had been trained at this speed, and no ledger that says otherwise."""
    workspace = project.workspace
    for path in (workspace.ledger_file, workspace.ledger_export):
        path.unlink(missing_ok=True)
    for shard_id in (0, 1, 2):
        path = workspace.export_record(shard_id)
        document = json.loads(path.read_bytes())
        for part in document["slices"]:
            part |= {"seconds": part["sample_epochs"] / images_a_second, "device": device}
        path.write_bytes(json_bytes(document))


def test_minutes_are_sample_epochs_at_the_speed_that_was_measured(trained: Project) -> None:
    pretend(trained, 10, "a slow machine")
    run = planned(trained, trained.victim(1, 1))
    assert isinstance(run.speed, Speed)
    assert (run.speed.slices, run.speed.device) == (9, "a slow machine")
    assert run.speed.seconds_per_sample_epoch == pytest.approx(0.1)
    assert run.minutes == pytest.approx(run.sample_epochs / 10 / 60)
    trained.forget(*(trained.victim(shard_id, 0) for shard_id in (0, 1, 2)))
    trained.stages("partition", "schedule")  # no key is what it was, and nothing is trained
    assert planned(trained).speed == Absent(
        absent="nothing on record was trained with these parameters (network, image size, features, method, "
        "batch size, precision, "
        "augmentation, threads)"
    )


def test_minutes_are_known_from_the_ledger_alone(trained: Project) -> None:
    entry = json.loads(trained.workspace.ledger_file.read_text())
    slices = [part for shard in entry["shards"] for part in shard["slices"]]
    shutil.rmtree(trained.workspace.exports_folder)
    speed = planned(trained).speed
    assert isinstance(speed, Speed)
    assert speed.slices == 9
    took = sum(part["seconds"] for part in slices) / sum(part["sample_epochs"] for part in slices)
    assert speed.seconds_per_sample_epoch == pytest.approx(took)


def test_a_speed_counts_where_a_sample_takes_as_long(trained: Project) -> None:
    pretend(trained, 10)
    trained.change(training__learning_rate=0.06, seed=1)
    assert planned(trained).minutes == pytest.approx(planned(trained).sample_epochs / 10 / 60)
    trained.change(training__threads=2)
    assert isinstance(planned(trained).minutes, Absent)


def test_machines_are_not_mixed(trained: Project) -> None:
    pretend(trained, 10, "then")
    path = trained.workspace.export_record(2)
    path.write_text(path.read_text().replace('"then"', '"now"'))
    speed = planned(trained).speed
    assert isinstance(speed, Speed)
    assert (speed.device, speed.slices) == ("now", 3)


# What is expected.


def test_what_was_not_asked_for_is_left_out(trained: Project) -> None:
    found = costs(trained.workspace)
    assert (found.batch, found.month, found.settings) == (None, None, None)


def test_random_deletions_cost_what_they_cost_on_average(trained: Project) -> None:
    """Every sample of a shard of one slice in turn, planned exactly; the expectation counts the deleted one as well."""
    found = costs(trained.workspace, deletions=1)
    assert found.batch is not None
    retained = [load_plan(trained.workspace.plan_file(shard_id)).samples for shard_id in (0, 1, 2)]
    total = sum(map(sum, retained))
    exact = 0.0
    for samples in retained:
        for slice_id, count in enumerate(samples):
            exact += count / total * sum(sum(samples[: later + 1]) for later in range(slice_id, 3))
    assert found.batch.sample_epochs == pytest.approx(exact)
    assert found.batch.shards == pytest.approx(1)
    assert found.batch.share == pytest.approx(exact / found.run.full_sample_epochs)


def test_the_table_has_the_projects_own_numbers_once(trained: Project) -> None:
    table = costs(trained.workspace, deletions=2).settings
    assert table is not None
    assert [(each.shards, each.slices) for each in table if each.own] == [(3, 3)]
    assert [(each.shards, each.slices) for each in table if not each.own] == [
        (shards, slices) for shards in (5, 10, 20) for slices in (5, 10, 20)
    ]
    first = table[1]  # 5 × 5 of 1,442 samples, one epoch a slice
    assert first.full_sample_epochs == pytest.approx(1442 * 3)
    assert first.batch.share == pytest.approx(sum(2 / 30 * i * (1 - (1 - i / 25) ** 2) for i in range(1, 6)))
    assert first.month is None
    found = costs(trained.workspace, deletions=2)
    assert next(each.batch for each in table if each.own) == found.batch


def test_more_deletions_than_samples_are_refused(trained: Project) -> None:
    with pytest.raises(SisaError, match="1443 deletions are asked about, only 1442 samples are trained on"):
        costs(trained.workspace, deletions=1443)


# The command.


def test_the_json_object_holds_all_of_it(trained: Project) -> None:
    victim = trained.victim(1, 1)
    words = ["plan", victim, "--json", "--what-if", "3", "--rate", "2", "--window", "12h"]
    found = Costs.model_validate_json(trained.run("sisa", *words).stdout)
    assert of_shards(found.run) == of_shards(planned(trained, victim))
    assert found.batch is not None
    assert found.batch.deletions == 3
    assert isinstance(found.month, Month)
    assert (found.month.rate, found.month.window_days) == (2, 0.5)
    assert found.month.retrainings == 30  # half a day until a request comes, half a day until the window closes
    assert found.settings is not None
    assert len(found.settings) == 10


def test_a_person_sees_it_in_words(trained: Project) -> None:
    pretend(trained, 10)
    out = trained.run("sisa", "plan", trained.victim(1, 1)).stdout
    cost = planned(trained, trained.victim(1, 1)).sample_epochs
    assert f"slices 1 to 2 │ {cost}" in out
    assert f"{cost / 600:.3g} minutes of training, at 10 sample-epochs a second (cpu, measured on 9 slices)." in out
    assert "Nothing would be trained." in trained.run("sisa", "plan").stdout
    trained.change(forget__apply=False)
    assert "forget.apply is false: lists are only monitored" in trained.run("sisa", "plan").stdout


def test_tables_fit_100_columns_at_any_size(trained: Project) -> None:
    found = costs(trained.workspace)
    shards = tuple(
        shard.model_copy(
            update={"retained": 1_000_000, "slices": (0, 2, 4, 6, 8), "sample_epochs": 10**9, "shard": 1000}
        )
        for shard in found.run.shards
    )
    slow = Speed(seconds_per_sample_epoch=0.01, slices=1, device="cpu")
    sizes = [[1e5] * 10] * 10
    settings = tuple(
        each.model_copy(
            update={
                "full_sample_epochs": 1e9,
                "batch": batch(sizes, 100, 500, slow),
                "month": month(sizes, 100, 1000.5, 0.125, slow),
            }
        )
        for each in costs(trained.workspace, deletions=1).settings or ()
    )
    run = found.run.model_copy(update={"shards": shards, "sample_epochs": 10**9})
    large = Costs(run=run, batch=settings[0].batch, month=settings[0].month, settings=settings)
    console = Console(width=100)
    with console.capture() as written:
        show(large, console)
    text = written.get()
    assert text.count("┏") == 4
    assert "…" not in text
    for table in text.split("┏")[1:]:
        body = table.split("┡")[0]
        assert body.count("\n") == 2, "no heading is wrapped"
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "2"], "--rate and --window belong together"),
        (["--window", "1d"], "--rate and --window belong together"),
        (["--rate", "0", "--window", "1d"], "requests a day, above 0, found 0.0"),
        (["--rate", "2", "--window", "week"], "expected hours or days, as 12h or 7d, found 'week'"),
        (["--what-if", "0"], "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(words: list[str], message: str) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["plan", *words])
    assert done.exit_code == 2
    assert message in done.output


LOADED = """
import sys
sys.argv = ["sisa", "plan", "--what-if", "2"]
from training.commands.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules))
"""


def test_it_waits_for_no_library_that_is_slow_to_load(trained: Project) -> None:
    loaded = set(trained.run(sys.executable, "-c", LOADED).stdout.splitlines()[-1].split())
    assert "numpy" in loaded
    assert not loaded & {"torch", "torchvision", "sklearn", "scipy", "onnx", "onnxruntime", "dvc", "PIL"}
