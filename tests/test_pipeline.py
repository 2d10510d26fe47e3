"""What forgetting promises, on the real pipeline with real data: its stages in one process, and through real DVC."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MODELS, SMALL, Project
from PIL import Image

from training.chain.plan import load_plan, retrained
from training.data.store import load_shard
from training.engine.serial import train_shard
from training.errors import StalePlanError, TrainingError
from training.forgetting.reinstate import reinstate

Create = Callable[..., Project]

JUDGED = ["evaluate", "membership", "backdoor", "report"]  # what runs whenever there is another ensemble


def stale(project: Project) -> dict[int, list[int]]:
    """Shard to the slices that are to be retrained, by the plans of now."""
    plans = [load_plan(path) for path in sorted(project.workspace.plan_folder.glob("shard-*"))]
    return {shard: slices for shard, slices in retrained(project.workspace, plans).items() if slices}


def slice_of(path: str) -> int:
    return int(path.rsplit("slice-", 1)[1][:2])


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def test_forgetting_a_sample_retrains_its_shard_from_its_slice_and_nothing_else(
    trained: Project, create: Create
) -> None:
    victim, shard = trained.victim(1, 1), trained.shard(1)
    picture = np.array(shard.images[shard.ids.index(victim)]).tobytes()
    before, manifest = trained.models(), trained.manifest()
    assert picture in trained.contents("data")["data/shards/shard-1.npy"]

    trained.forget(victim)
    trained.stages("partition", "schedule")
    assert stale(trained) == {1: [1, 2]}
    trained.stages("train", "assemble")

    after = trained.models()
    chain = {
        "data/shards/shard-1.npy",
        "models/plan/shard-1.json",
        "models/exports/block-1/shard-1.onnx",
        "models/plan/block-1.json",
    }
    differing = changed(before, after)
    assert {path for path in differing if "checkpoints" not in path} == chain
    assert {slice_of(path) for path in differing if "checkpoints" in path} == {1, 2}
    assert all("checkpoints/block-1/shard-1/" in path for path in differing if "checkpoints" in path)
    assert len([path for path in after if "checkpoints" in path]) == 9  # 3 shards of 3, none off the chain
    assert not any(picture in content for content in trained.contents("data").values())

    now = trained.manifest()
    assert now["generation"] == manifest["generation"] + 2  # the withdrawal is one as well
    assert now["forgotten"]["listed"] == 1
    assert [a == b for a, b in zip(now["shards"], manifest["shards"], strict=True)] == [True, False, True]

    never_had_it = create("scratch")
    never_had_it.forget(victim)
    never_had_it.stages(*MODELS)
    assert never_had_it.models() == after


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        ("resnet9", "bf16"),
        pytest.param("resnet18", "fp32", marks=pytest.mark.heavy),
        pytest.param("resnet18", "bf16", marks=pytest.mark.heavy),  # without bf16 instructions it takes minutes
    ],
)
def test_forgetting_equals_never_having_seen_bit_for_bit(create: Create, network: str, precision: str) -> None:
    changes = {
        "network__name": network,
        "training__precision": precision,
        "sisa__shards": [0, 1],
        "sisa__slices": 2,
        "data__image_size": 32 if (network, precision) == ("resnet18", "bf16") else 8,
        "training__batch_size": 128,
    }
    unlearned, scratch = create("unlearned", **changes), create("scratch", **changes)
    unlearned.stages(*MODELS)
    first, deep = unlearned.victim(0, 0), unlearned.victim(1, 1)
    before = unlearned.models()
    for project in (unlearned, scratch):
        project.forget(first, deep)
    unlearned.stages("partition", "schedule")
    assert stale(unlearned) == {0: [0, 1], 1: [1]}  # one from the start, one resumed in mid-chain
    unlearned.stages("train", "assemble")
    scratch.stages(*MODELS)
    assert unlearned.models() == scratch.models()
    assert any(path.endswith(".onnx") and before[path] != content for path, content in unlearned.models().items())


def test_a_hole_in_the_chain_is_filled_alone(trained: Project) -> None:
    before = trained.models()
    (hole,) = trained.workspace.checkpoint_folder(2).glob("slice-01-*")
    others = {path: path.stat().st_mtime_ns for path in trained.workspace.checkpoint_folder(2).iterdir()}
    hole.unlink()
    trained.stages("train")
    assert trained.models() == before
    assert all(path.stat().st_mtime_ns == time for path, time in others.items() if path != hole)


def test_removing_a_file_retrains_exactly_what_listing_it_would(create: Create, tmp_path: Path) -> None:
    root = tmp_path / "pictures"  # outside of the workspace, as a user's own would be
    generator = np.random.default_rng(0)
    for split, count in (("train", 55), ("test", 4)):
        for name, brightness in (("dark", 60), ("light", 200)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-50, 50, (9, 11, 3))
                Image.fromarray((brightness + noise).astype(np.uint8)).save(folder / f"{number}.png")
    listed = create(
        "listed",
        data__source="imagefolder",
        data__root=str(root),
        sisa__shards=[0, 1],
        sisa__slices=2,
        training__batch_size=4,
    )
    listed.stages(*MODELS)
    removed = listed.copy(tmp_path / "removed")
    victim = listed.victim(1, 1)
    assert victim.startswith(("dark/", "light/"))

    listed.forget(victim)
    listed.stages("partition", "schedule")
    assert stale(listed) == {1: [1]}
    listed.stages("train", "assemble")

    (root / "train" / victim).unlink()
    removed.stages("partition", "schedule")
    assert stale(removed) == {1: [1]}
    removed.stages("train", "assemble")
    assert removed.models() == listed.models()


def test_deletions_that_empty_a_slice_and_a_shard_leave_a_working_ensemble(trained: Project) -> None:
    emptied, other = trained.shard(0), trained.shard(2)
    in_slice_0 = [name for name, where in zip(other.ids, other.slices, strict=True) if where == 0]
    retained = len(other) - len(in_slice_0)
    trained.forget(*emptied.ids, *in_slice_0)
    trained.stages()
    shards = trained.manifest()["shards"]
    assert [(shard["abstains"], shard["retained"]) for shard in shards] == [
        (True, 0),
        (False, len(trained.shard(1))),
        (False, retained),
    ]
    assert (shards[0]["file"], shards[0]["sha256"]) == (None, None)
    assert list(trained.workspace.checkpoint_folder(0).iterdir()) == []
    assert len(list(trained.workspace.checkpoint_folder(2).iterdir())) == 3
    accuracy = (trained.folder / "reports/shards.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in accuracy] == ["shard", "1", "2"]

    trained.forget()
    reinstate(trained.workspace, [*emptied.ids, *in_slice_0], "a test")
    trained.stages("partition", "schedule")
    assert stale(trained) == {0: [0, 1, 2], 2: [0, 1, 2]}  # and back


@pytest.mark.parametrize(
    "change",
    [
        {"training__learning_rate": 0.06},
        {"seed": 1},
        {"training__threads": 2},
        {"network__normalisation": "half"},
    ],
)
def test_what_shapes_weights_retrains_everything(trained: Project, change: dict[str, Any]) -> None:
    trained.change(**change)
    trained.stages("partition", "schedule")
    assert stale(trained) == {0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2]}


@pytest.mark.parametrize("change", [{"sisa__aggregation": "vote"}, {"device": "auto"}])
def test_what_shapes_no_weights_retrains_nothing(trained: Project, change: dict[str, Any]) -> None:
    before = trained.models()
    trained.change(**change)
    trained.stages("partition", "schedule")
    assert stale(trained) == {}
    assert trained.models() == before


def test_a_flip_of_what_is_judged_trains_nothing_and_publishes_other_models(trained: Project) -> None:
    checkpoints, before = trained.contents("models/checkpoints"), trained.manifest()
    trained.change(network__test_time_flip=True)
    trained.stages(*MODELS)
    assert trained.contents("models/checkpoints") == checkpoints
    after = trained.manifest()
    assert after["generation"] == before["generation"] + 1
    changed = [
        (was["key"] == now["key"], was["sha256"] == now["sha256"])
        for was, now in zip(before["shards"], after["shards"], strict=True)
    ]
    assert changed == [(True, False)] * 3


def test_fewer_or_more_shards_leave_nothing_stale(create: Create) -> None:
    project = create("project", sisa__slices=1)
    for count in (2, 3, 1):
        project.change(sisa__shards=list(range(count)))
        project.stages(*MODELS)
        names = {f"shard-{shard_id}" for shard_id in range(count)}
        assert {path.stem for path in (project.folder / "data/shards").iterdir()} == names
        for folder in ("models/plan", "models/exports"):
            assert {path.stem for path in (project.folder / folder).rglob("shard-*")} == names
        chains = list(project.workspace.checkpoints_folder.glob("*/shard-*"))
        assert {path.name for path in chains} == names
        assert [len(list(path.iterdir())) for path in chains] == [1] * count
        manifest = project.manifest()
        assert [shard["shard"] for shard in manifest["shards"]] == list(range(count))
        assert sum(shard["retained"] for shard in manifest["shards"]) == 1442
        published = {f"onnx/{path.name}" for path in project.workspace.onnx_folder.iterdir()}
        assert published == {shard["file"] for shard in manifest["shards"]}


@pytest.mark.parametrize("change", [{"data__image_size": 16}, {"sisa__slices": 2}, {"seed": 1}])
def test_shards_of_another_partition_get_no_plan(trained: Project, change: dict[str, Any]) -> None:
    trained.change(**change)
    with pytest.raises(StalePlanError, match=r"was (not written for shard 0 with these|written with other) parameters"):
        trained.stages("schedule")


def test_another_shards_file_gets_no_plan(trained: Project) -> None:
    shutil.copy(trained.workspace.shard_file(1), trained.workspace.shard_file(0))
    with pytest.raises(StalePlanError, match="was not written for shard 0"):
        trained.stages("schedule")


def test_plans_of_an_earlier_version_are_replaced_and_said_to_be(
    trained: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = trained.models()
    trained.stages("schedule")
    assert "not written by this version" not in capsys.readouterr().out
    trained.workspace.plan_file(1).write_text('{"shard": 1, "keys": ["of another kind"]}')
    trained.stages("schedule")
    assert "models/plan/shard-1.json was not written by this version" in capsys.readouterr().out
    assert trained.models() == before


def test_a_plan_of_other_parameters_or_samples_is_refused(trained: Project) -> None:
    trained.change(training__learning_rate=0.06)
    with pytest.raises(StalePlanError, match="the plan of shard 0 was made for other parameters, code or initial"):
        train_shard(trained.workspace, 0)
    trained.change(training__learning_rate=SMALL["training"]["learning_rate"])
    trained.forget(trained.victim(0, 1))
    trained.stages("partition")
    with pytest.raises(StalePlanError, match=r"the plan of shard 0 was made for other samples than .*shard-0"):
        train_shard(trained.workspace, 0)


def test_what_is_published_is_what_is_evaluated(trained: Project) -> None:
    """The reported numbers, recomputed from the published ONNX files alone."""
    import onnxruntime

    trained.stages("evaluate")
    test = load_shard(trained.workspace.test_file)
    files = sorted(trained.workspace.onnx_folder.iterdir())
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in files]
    images = np.ascontiguousarray(test.images)
    probabilities = np.stack([session.run(None, {"images": images})[0] for session in sessions])
    mean = (probabilities.mean(axis=0).argmax(axis=1) == test.labels).mean()
    report = json.loads((trained.folder / "reports/metrics.json").read_text())
    assert report["mean"]["accuracy"] == pytest.approx(mean, abs=1e-9)
    alone = (probabilities.argmax(axis=2) == test.labels).mean(axis=1)
    table = np.genfromtxt(
        io.StringIO((trained.folder / "reports/shards.csv").read_text()), delimiter=",", skip_header=1
    )
    assert table[:, 2] == pytest.approx(alone, abs=5e-5)


def test_training_starts_from_given_weights_but_for_the_head(create: Create) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from training.recipe.network.classifier import build_network

    project = create("project", network__name="resnet18", sisa__shards=[0], sisa__slices=1, seed=0)
    project.forget(*map(str, range(1400)))  # of 1442: a second of training is enough
    given = build_network(project.workspace.read_params().network, 1000).backbone.state_dict()
    path = project.folder / "models/initial/given.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in given.items()}, path)
    # A learning rate too small to move a float: the trained weights are the initial ones.
    project.change(
        network__weights="models/initial/given.safetensors", training__learning_rate=1e-30, training__weight_decay=0
    )
    project.stages("partition", "schedule", "train")
    (checkpoint,) = project.workspace.checkpoint_folder(0).iterdir()
    weights = load_file(checkpoint)
    assert torch.equal(weights["backbone.layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])
    assert weights["backbone.fc.3.weight"].shape == (10, 512)

    path.unlink()
    with pytest.raises(TrainingError, match=r"network\.weights: .*given\.safetensors is not a file"):
        train_shard(project.workspace, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda project: project.change(training={**SMALL["training"], "lerning_rate": 1}),
            "lerning_rate: no such key",
        ),
        (lambda project: project.forget("007"), "forget/requests.txt:1: '007': an id is a number written plainly"),
    ],
)
def test_a_mistake_stops_a_stage_with_a_message_before_anything_changes(
    trained: Project, change: Callable[[Project], None], message: str
) -> None:
    before = trained.models()
    change(trained)
    done = trained.stage("partition", check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert trained.models() == before


def test_a_missing_file_says_what_to_run(trained: Project) -> None:
    trained.workspace.plan_file(1).unlink()
    done = trained.stage("train", "--shard", "1", check=False)
    assert done.stderr == "error: models/plan/shard-1.json is missing; run `dvc repro` (or `dvc pull`)\n"


# From here on: real DVC.


def test_dvc_runs_what_a_deletion_touches_and_nothing_else(reproduced: Project) -> None:
    before = reproduced.models()
    reproduced.forget(reproduced.victim(1, 1))
    stages = reproduced.repro()
    assert stages == ["partition", "features", "schedule", "train@1", "assemble", *JUDGED]
    differing = changed(before, reproduced.models())
    assert {path for path in differing if "shard-1" not in path} == {"models/plan/block-1.json"}
    assert reproduced.manifest()["generation"] == 3  # the withdrawal is one as well
    assert reproduced.repro() == []
    assert "up to date" in reproduced.run("dvc", "status").stdout


@pytest.mark.heavy
def test_a_comment_retrains_nothing(reproduced: Project) -> None:
    before = reproduced.models()
    for name in ("network/classifier.py", "common/loop.py"):
        path = reproduced.folder / "training/recipe" / name
        path.write_text(path.read_text().replace("\n\n\n", "\n\n\n# A remark.\n\n\n", 1))
    assert not [stage for stage in reproduced.repro() if stage.startswith("train") or stage == "report"]
    assert reproduced.models() == before


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("network/resnet9.py", "Scale(0.125)", "Scale(0.25)"),
        ("common/schedule.py", "WARM_UP = 0.2", "WARM_UP = 0.3"),
    ],
)
def test_a_line_of_the_recipe_retrains_everything(reproduced: Project, file: str, old: str, new: str) -> None:
    path = reproduced.folder / "training/recipe" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    reproduced.repro("schedule")
    assert stale(reproduced) == {0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2]}


@pytest.mark.heavy
def test_a_parameter_that_is_set_back_is_published_again(reproduced: Project) -> None:
    for number, aggregation in enumerate(("vote", "mean", "vote"), start=2):
        reproduced.change(sisa__aggregation=aggregation)
        reproduced.repro("assemble")
        assert (reproduced.manifest()["generation"], reproduced.manifest()["aggregation"]) == (number, aggregation)


@pytest.mark.heavy
def test_dvc_follows_when_shards_are_taken_away(reproduced: Project) -> None:
    reproduced.change(sisa__shards=[0])
    assert reproduced.repro() == [
        "partition",
        "features",
        "schedule",
        "train@0",
        "train@1",
        "train@2",
        "assemble",
        *JUDGED,
    ]
    exported = sorted(path.name for path in reproduced.workspace.exports_folder.rglob("shard-*"))
    assert exported == ["shard-0.csv", "shard-0.json", "shard-0.onnx"]
    assert len(list(reproduced.workspace.onnx_folder.iterdir())) == 1
    assert "up to date" in reproduced.run("dvc", "status").stdout
    assert (
        "models/exports/block-1/shard-1.onnx"
        not in reproduced.run("git", "status", "--short", "--untracked-files").stdout
    )


@pytest.mark.heavy
def test_a_clone_that_pulls_has_nothing_to_do_publishes_and_forgets_from_mid_chain(
    reproduced: Project, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    reproduced.run("dvc", "remote", "add", "--default", "store", str(remote))
    reproduced.run("dvc", "push")
    reproduced.commit()
    reproduced.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.repro() == []
    assert clone.models() == reproduced.models()
    assert not clone.workspace.manifest_file.exists()  # what is served is not an output of DVC
    assert "generation 1" in clone.run("sisa", "publish").stdout
    assert clone.manifest() == reproduced.manifest()

    clone.forget(clone.victim(2, 2))
    assert clone.repro() == ["partition", "features", "schedule", "train@2", "assemble", *JUDGED]
    assert clone.manifest()["generation"] == 3  # 2: without the shard that saw it


@pytest.mark.heavy
def test_metrics_plots_and_experiments_work_as_plain_dvc(reproduced: Project) -> None:
    shown = json.loads(reproduced.run("dvc", "metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]["reports/metrics.json"]["data"]
    names = {"accuracy", "weighted_f1", "weighted_precision", "weighted_recall", "auroc", "expected_calibration_error"}
    for aggregation in ("mean", "vote"):
        assert names | {"log_loss"} <= metrics[aggregation].keys()
        assert 0.5 < metrics[aggregation]["accuracy"] <= 1  # chance is 0.1
    reproduced.run("dvc", "plots", "show", "--out", "plots")
    page = (reproduced.folder / "plots/index.html").read_text()
    for title in [
        "Loss by epoch",
        "Confusion",
        "Reliability",
        "Accuracy by number of shards",
        "Robustness",
        "Membership attacks",
    ]:
        assert title in page
    out = reproduced.run("dvc", "exp", "run", "--name", "voting", "-S", "sisa.aggregation=vote").stdout
    assert "Running stage 'assemble'" in out
    assert "train@" not in re.findall(r"Running stage '(.*)'", out)


@pytest.mark.heavy
def test_a_temporary_experiment_computes_and_publishes_nothing(reproduced: Project) -> None:
    before = reproduced.manifest(), reproduced.workspace.ledger_file.read_bytes()
    out = reproduced.run("dvc", "exp", "run", "--temp", "--name", "voting", "-S", "sisa.aggregation=vote").stdout
    assert "an experiment publishes nothing" in out
    assert (reproduced.manifest(), reproduced.workspace.ledger_file.read_bytes()) == before


@pytest.mark.heavy
def test_a_manifest_that_is_replaced_while_dvc_commits_stays(reproduced: Project) -> None:
    """What is served is not an output of DVC: whatever DVC does when a stage ends, it neither moves nor restores it."""
    reproduced.change(publish={"readmit": "together"})  # nothing but assemble publishes
    reproduced.forget(reproduced.victim(0, 1))
    path = reproduced.workspace.manifest_file
    process = reproduced.start("dvc", "repro")
    written = None
    while process.poll() is None:
        content = path.read_bytes()  # it is never missing
        generation = json.loads(content)["generation"]
        assert generation in (1, 2, 3)  # 2: without the shard that saw it
        if generation == 3:  # published, and DVC has yet to commit the stage: somebody replaces it at every moment
            assert written is None or content == written
            written = content + b"\n"
            other = path.with_name("other.json")
            other.write_bytes(written)
            other.replace(path)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert path.read_bytes() == written
