"""What forgetting promises, on the real pipeline with real data, most of it through real DVC."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Workspace
from PIL import Image

from training.shards import Shard, load_shard

pytestmark = pytest.mark.pipeline

Create = Callable[..., Workspace]

JUDGED = ["evaluate", "membership", "backdoor", "report"]  # what runs whenever there is another ensemble


def shard_of(workspace: Workspace, shard_id: int) -> Shard:
    return load_shard(workspace.folder / f"data/shards/shard-{shard_id}.npz")


def victim_of(workspace: Workspace, shard_id: int, slice_id: int) -> str:
    """The last sample of a slice, the one that a careless hash would leave out."""
    shard = shard_of(workspace, shard_id)
    return str(shard.ids[shard.slices == slice_id][-1])


def plan_of(workspace: Workspace) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((workspace.folder / "reports/plan.json").read_text())
    return report


def retrained(workspace: Workspace) -> dict[int, list[int]]:
    """Shard to the slices that the schedule finds to be retrained."""
    return {row["shard"]: row["retrain_slices"] for row in plan_of(workspace)["shards"] if row["retrain_slices"]}


def slice_of(path: str) -> int:
    return int(path.rsplit("slice-", 1)[1][:2])


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def test_forgetting_a_sample_retrains_its_shard_from_its_slice_and_nothing_else(
    trained: Workspace, create: Create
) -> None:
    victim, shard = victim_of(trained, 1, 1), shard_of(trained, 1)
    picture = shard.images[shard.ids.tolist().index(victim)].tobytes()
    before = trained.models()
    assert picture in before["data/shards/shard-1.npz"]
    manifest = json.loads((trained.folder / "models/ensemble.json").read_text())

    trained.forget(victim)
    stages = trained.repro()

    after = trained.models()
    assert stages == ["partition", "schedule", "train@1", "export@1", "assemble", *JUDGED]
    assert retrained(trained) == {1: [1, 2]}
    chain = {"data/shards/shard-1.npz", "models/plan/shard-1.json", "models/exports/shard-1.onnx"}
    differing = changed(before, after)
    assert {path for path in differing if "checkpoints" not in path} == chain
    assert {slice_of(path) for path in differing if "checkpoints" in path} == {1, 2}
    assert all("checkpoints/shard-1/" in path for path in differing if "checkpoints" in path)
    assert len([path for path in after if "checkpoints" in path]) == 9  # 3 shards of 3, none off the chain
    assert not any(picture in content for path, content in after.items() if path.startswith("data/"))

    # Sample-epochs by hand: slices 1 and 2 train on the unions of slices 0-1 and 0-2.
    counts = np.bincount(shard_of(trained, 1).slices).tolist()
    assert plan_of(trained)["sample_epochs"] == (counts[0] + counts[1]) + sum(counts)

    now = json.loads((trained.folder / "models/ensemble.json").read_text())
    assert now["generation"] == manifest["generation"] + 1
    assert now["forgotten"]["listed"] == 1
    assert [a == b for a, b in zip(now["shards"], manifest["shards"], strict=True)] == [True, False, True]

    never_had_it = create("scratch")
    never_had_it.forget(victim)
    never_had_it.all_stages()
    assert never_had_it.models() == after

    assert trained.repro() == []


@pytest.mark.parametrize(("network", "precision"), [("resnet9", "bf16"), ("resnet18", "fp32"), ("resnet18", "bf16")])
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
    unlearned.all_stages()
    first, deep = victim_of(unlearned, 0, 0), victim_of(unlearned, 1, 1)
    before = unlearned.models()
    for workspace in (unlearned, scratch):
        workspace.forget(first, deep)
    out = unlearned.all_stages()
    assert "shard 0: trained slices 0 to 1" in out
    assert "shard 1: trained slice 1 in" in out  # resumed in mid-chain
    scratch.all_stages()
    assert unlearned.models() == scratch.models()
    assert any(path.endswith(".onnx") and before[path] != content for path, content in unlearned.models().items())


def test_removing_a_file_retrains_exactly_what_listing_it_would(create: Create, tmp_path: Path) -> None:
    root = tmp_path / "pictures"  # outside of the workspace, as a user's own would be
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 4)):
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
    listed.all_stages()
    listed.run("dvc", "commit", "--force")  # as if DVC had run them
    removed = listed.copy(tmp_path / "removed")
    victim = victim_of(listed, 1, 1)
    assert victim.startswith(("dark/", "light/"))

    listed.forget(victim)
    expected = ["partition", "schedule", "train@1", "export@1", "assemble", *JUDGED]
    assert listed.repro() == expected
    assert retrained(listed) == {1: [1]}

    (root / "train" / victim).unlink()
    assert removed.repro() == expected
    assert removed.models() == listed.models()


def test_deletions_that_empty_a_slice_and_a_shard_leave_a_working_ensemble(trained: Workspace) -> None:
    emptied, other = shard_of(trained, 0), shard_of(trained, 2)
    trained.forget(*emptied.ids, *other.ids[other.slices == 0])
    stages = trained.repro()
    assert "train@1" not in stages
    manifest = json.loads((trained.folder / "models/ensemble.json").read_text())
    shards = manifest["shards"]
    assert [(shard["abstains"], shard["retained"]) for shard in shards] == [
        (True, 0),
        (False, len(shard_of(trained, 1).ids)),
        (False, int((other.slices > 0).sum())),
    ]
    assert (shards[0]["file"], shards[0]["sha256"]) == (None, None)
    assert list((trained.folder / "models/checkpoints/shard-0").iterdir()) == []
    assert len(list((trained.folder / "models/checkpoints/shard-2").iterdir())) == 3
    accuracy = (trained.folder / "reports/shards.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in accuracy] == ["shard", "1", "2"]
    assert "mean.accuracy" in trained.run("dvc", "metrics", "diff").stdout  # it shows what that cost

    trained.forget()
    assert {"train@0", "train@2"} < set(trained.repro())  # and back


def test_a_comment_retrains_nothing(trained: Workspace) -> None:
    before = trained.models()
    for name in ("network.py", "loop.py"):
        path = trained.folder / "training" / name
        path.write_text(path.read_text().replace("\n\n\n", "\n\n\n# A remark.\n\n\n", 1))
    assert trained.repro() == ["schedule", "report"]  # which says that nothing was to be done
    assert trained.models() == before


@pytest.mark.parametrize("change", ["learning_rate", "seed", "network", "loop"])
def test_what_shapes_weights_retrains_everything(trained: Workspace, change: str) -> None:
    folder = trained.folder / "training"
    if change == "learning_rate":
        trained.change(training__learning_rate=0.06)
    elif change == "seed":
        trained.change(seed=1)
    elif change == "network":
        (folder / "network.py").write_text((folder / "network.py").read_text().replace("Scale(0.125)", "Scale(0.25)"))
    else:
        (folder / "loop.py").write_text((folder / "loop.py").read_text().replace("WARM_UP = 0.2", "WARM_UP = 0.3"))
    trained.repro("schedule")
    assert retrained(trained) == {0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2]}
    assert plan_of(trained)["ratio"] == 1


def test_what_shapes_no_weights_retrains_nothing(trained: Workspace) -> None:
    trained.change(sisa__aggregation="vote", device="auto")
    assert trained.repro() == ["assemble", *JUDGED]


def test_fewer_or_more_shards_leave_nothing_stale(create: Create) -> None:
    workspace = create("workspace", sisa__slices=1)
    for count in (2, 3, 1):
        workspace.change(sisa__shards=list(range(count)))
        workspace.all_stages()
        names = {f"shard-{shard_id}" for shard_id in range(count)}
        for folder in ("data/shards", "models/plan", "models/exports", "reports/training", "reports/cost"):
            assert {path.stem for path in (workspace.folder / folder).iterdir()} == names
        chains = list((workspace.folder / "models/checkpoints").iterdir())
        assert {path.name for path in chains} == names
        assert [len(list(path.iterdir())) for path in chains] == [1] * count
        manifest = json.loads((workspace.folder / "models/ensemble.json").read_text())
        assert [shard["shard"] for shard in manifest["shards"]] == list(range(count))
        assert sum(shard["retained"] for shard in manifest["shards"]) == 1442
        published = {f"onnx/{path.name}" for path in (workspace.folder / "models/onnx").iterdir()}
        assert published == {shard["file"] for shard in manifest["shards"]}


def test_dvc_follows_when_shards_are_taken_away(trained: Workspace) -> None:
    trained.change(sisa__shards=[0])
    assert trained.repro() == ["partition", "schedule", "train@0", "export@0", "assemble", *JUDGED]
    assert [path.name for path in (trained.folder / "models/exports").iterdir()] == ["shard-0.onnx"]
    assert len(list((trained.folder / "models/onnx").iterdir())) == 1
    assert "up to date" in trained.run("dvc", "status").stdout
    assert "models/exports/shard-1.onnx" not in trained.run("git", "status", "--short", "--untracked-files").stdout


def test_a_clone_that_pulls_has_nothing_to_do_and_forgets_from_mid_chain(trained: Workspace, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    trained.run("dvc", "remote", "add", "--default", "store", str(remote))
    trained.run("dvc", "push")
    trained.commit()
    trained.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Workspace(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.repro() == []
    assert clone.models() == trained.models()

    clone.forget(victim_of(clone, 2, 2))
    assert clone.repro() == ["partition", "schedule", "train@2", "export@2", "assemble", *JUDGED]
    assert retrained(clone) == {2: [2]}


def test_metrics_plots_and_experiments_work_as_plain_dvc(trained: Workspace) -> None:
    shown = json.loads(trained.run("dvc", "metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]["reports/metrics.json"]["data"]
    names = {"accuracy", "weighted_f1", "weighted_precision", "weighted_recall", "auroc", "expected_calibration_error"}
    for aggregation in ("mean", "vote"):
        assert names <= metrics[aggregation].keys()
        assert "log_loss" in {*metrics[aggregation], *metrics[aggregation].get("absent", {})}
        assert 0.5 < metrics[aggregation]["accuracy"] <= 1  # chance is 0.1
    trained.run("dvc", "plots", "show", "--out", "plots")
    page = (trained.folder / "plots/index.html").read_text()
    titles = ["Loss by epoch", "Accuracy of each shard alone", "Confusion, mean", "Confusion, majority vote"]
    titles += ["Reliability", "Accuracy by number of shards", "no poisoning of so many shards", "winner's votes", "ROC"]
    for title in titles:
        assert title in page
    out = trained.run("dvc", "exp", "run", "--name", "voting", "-S", "sisa.aggregation=vote").stdout
    assert "Running stage 'assemble'" in out
    assert "train@" not in re.findall(r"Running stage '(.*)'", out)


def test_what_is_served_is_what_is_evaluated(trained: Workspace) -> None:
    """The reported numbers, recomputed from the ONNX files alone."""
    import onnxruntime

    test = load_shard(trained.folder / "data/test.npz")
    files = sorted((trained.folder / "models/onnx").iterdir())
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in files]
    probabilities = np.stack([session.run(None, {"images": test.images})[0] for session in sessions])
    mean = (probabilities.mean(axis=0).argmax(axis=1) == test.labels).mean()
    report = json.loads((trained.folder / "reports/metrics.json").read_text())
    assert report["mean"]["accuracy"] == pytest.approx(mean, abs=1e-9)
    alone = (probabilities.argmax(axis=2) == test.labels).mean(axis=1)
    table = np.genfromtxt(
        io.StringIO((trained.folder / "reports/shards.csv").read_text()), delimiter=",", skip_header=1
    )
    assert table[:, 2] == pytest.approx(alone, abs=5e-5)


def test_a_model_of_another_key_is_not_assembled(trained: Workspace) -> None:
    onnx = trained.folder / "models/exports"
    (onnx / "shard-1.onnx").write_bytes((onnx / "shard-0.onnx").read_bytes())
    done = trained.stage("assemble", check=False)
    assert done.returncode == 1
    assert "models/exports/shard-1.onnx carries the key" in done.stderr
    (onnx / "shard-1.onnx").unlink()
    done = trained.stage("assemble", check=False)
    assert "models/exports/shard-1.onnx is missing; run `dvc repro export@1` or `dvc pull`" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_generation_rises_with_the_content_alone(trained: Workspace) -> None:
    def generation() -> int:
        number: int = json.loads((trained.folder / "models/ensemble.json").read_text())["generation"]
        return number

    assert generation() == 1
    trained.stage("assemble")
    assert generation() == 1
    trained.change(sisa__aggregation="vote")
    trained.stage("assemble")
    assert generation() == 2


def test_a_misspelt_parameter_stops_before_anything_runs(trained: Workspace) -> None:
    before = trained.models()
    trained.change(training={**SMALL["training"], "lerning_rate": 1})
    done = trained.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "training.lerning_rate: no such key" in done.stderr
    assert "Traceback" not in done.stderr
    assert trained.models() == before


def test_an_id_that_cannot_exist_stops_before_anything_changes(trained: Workspace) -> None:
    before = trained.models()
    trained.forget("3", "007")
    done = trained.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "forget/requests.txt:2: '007': an id is a number written plainly" in done.stderr
    assert trained.models() == before


def test_training_starts_from_given_weights_but_for_the_head(create: Create) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from training.network import build_network

    workspace = create("workspace", network__name="resnet18", sisa__shards=[0], sisa__slices=1, seed=0)
    given = build_network("resnet18", 1000).backbone.state_dict()
    save_file(
        {name: tensor.contiguous() for name, tensor in given.items()},
        workspace.folder / "models/initial/given.safetensors",
    )
    # A learning rate too small to move a float: the trained weights are the initial ones.
    workspace.change(
        network__weights="models/initial/given.safetensors", training__learning_rate=1e-30, training__weight_decay=0
    )
    for stage in ("partition", "schedule"):
        workspace.stage(stage)
    workspace.stage("train", "--shard", "0")
    (checkpoint,) = (workspace.folder / "models/checkpoints/shard-0").iterdir()
    trained = load_file(checkpoint)
    assert torch.equal(trained["layer4.1.conv2.weight"], given["layer4.1.conv2.weight"])
    assert trained["fc.3.weight"].shape == (10, 512)

    (workspace.folder / "models/initial/given.safetensors").unlink()
    done = workspace.stage("train", "--shard", "0", check=False)
    assert "network.weights: models/initial/given.safetensors is not a file" in done.stderr
