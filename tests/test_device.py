"""What must hold on every device: each test runs on the CPU, and with the marker ``gpu`` on a GPU (`make test-gpu`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import MODELS, Project, made_once
from torch import Tensor

from serving.ensemble.loading import CUDA, load_ensemble
from training.chain.checkpoints import Checkpoint, load_checkpoint
from training.chain.plan import load_plan
from training.engine.serial import train_shard
from training.learning import Sgd, by_sgd
from training.params import load_params
from training.publish.export import load_model, noise
from training.recipe.common.device import choose_device
from training.recipe.common.schedule import make_epoch
from training.recipe.common.step import AnyStep, Step, make_step
from training.recipe.network.classifier import Classifier, build_network

Create = Callable[..., Project]

PARAMS = load_params(Path(__file__).parents[1] / "profiles/digits.yaml")

RECIPES = [
    pytest.param({}, id="resnet9-fp32"),
    pytest.param({"training__precision": "bf16"}, id="resnet9-bf16"),
    pytest.param({"network__name": "resnet18"}, id="resnet18-fp32", marks=pytest.mark.heavy),  # on a CPU
    pytest.param(
        {"network__name": "resnet18", "training__precision": "bf16", "data__image_size": 32},
        id="resnet18-bf16",
        marks=pytest.mark.heavy,
    ),
]


def checkpoints(project: Project) -> list[Checkpoint]:
    """Those of shard 0."""
    keys = load_plan(project.workspace.plan_file(0)).keys
    paths = project.workspace.checkpoint_files(0, keys)
    return [load_checkpoint(path, key) for path, key in zip(paths, keys, strict=True)]


def contents(project: Project) -> list[str]:
    return [checkpoint.content for checkpoint in checkpoints(project)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_repeats_its_bits_in_another_process_and_after_a_stop(
    create: Create, tmp_path: Path, device: str, recipe: dict[str, Any]
) -> None:
    project = create("project", device=device, **recipe)
    project.stages("partition", "schedule")
    train_shard(project.workspace, 0)
    first = contents(project)

    train_shard(project.workspace, 0, fresh=True)
    assert contents(project) == first

    stopped = project.copy(tmp_path / "stopped")
    for path in sorted(stopped.workspace.checkpoint_folder(0).iterdir())[1:]:
        path.unlink()
    train_shard(stopped.workspace, 0)
    assert contents(stopped) == first

    elsewhere = project.copy(tmp_path / "elsewhere")
    elsewhere.stage("train", "--shard", "0", "--fresh")
    assert contents(elsewhere) == first


def test_what_is_forgotten_leaves_no_trace(create: Create, device: str) -> None:
    changes = {"device": device, "sisa__shards": [0, 1], "training__epochs_per_slice": 2}
    unlearned, scratch = create("unlearned", **changes), create("scratch", **changes)
    unlearned.stages(*MODELS)
    before = unlearned.models()
    victims = [unlearned.victim(0, 0), unlearned.victim(1, 2)]
    for project in (unlearned, scratch):
        project.forget(*victims)
        project.stages(*MODELS)
    assert unlearned.models() == scratch.models()
    assert unlearned.models() != before


@pytest.fixture
def published(tmp_path_factory: pytest.TempPathFactory, device: str) -> Project:
    """A project whose models were trained on the device and published; only to be read."""
    make = partial(Project.create, device=device)
    return made_once(tmp_path_factory, f"trained-{device}", lambda folder: make(folder).stages(*MODELS))


def test_the_exported_model_answers_as_the_network_does_on_the_device(published: Project, device: str) -> None:
    plan, images = load_plan(published.workspace.plan_file(0)), noise(8)
    model = load_model(plan.recipe, checkpoints(published)[-1].weights).to(choose_device(device, 1))
    session = onnxruntime.InferenceSession(published.workspace.export_file(0), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(torch.from_numpy(images).to(device)).cpu().numpy()
    assert np.asarray(session.run(None, {"images": images})[0]) == pytest.approx(expected, abs=1e-4)


def test_what_was_trained_is_served_on_the_device(published: Project, device: str) -> None:
    if device == "cuda" and CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built without CUDA: make test-gpu EXTRA=gpu")
    models, images = published.workspace.models_folder, noise(8)
    served = load_ensemble(models, threads=2, provider="cuda" if device == "cuda" else "cpu")
    expected = load_ensemble(models, threads=1).shard_probabilities(images)
    assert served.sessions[0].get_providers()[0] == ("CPUExecutionProvider" if device == "cpu" else CUDA)
    assert served.shard_probabilities(images) == pytest.approx(expected, abs=1e-3)


def test_a_checkpoint_names_the_device_that_made_it(published: Project, device: str) -> None:
    environment = checkpoints(published)[0].record.environment
    if device == "cuda":
        assert environment["device"] == torch.cuda.get_device_name()
        assert environment["cudnn"] == torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    else:
        assert environment["device"] == torch.backends.cpu.get_cpu_capability()
        assert environment["cudnn"] == "unused"


def recipe_with(**values: object) -> Sgd:
    return by_sgd(PARAMS.training).model_copy(update={"batch_size": 8, **values})


def network_on(device: str, name: str) -> Classifier:
    torch.manual_seed(0)
    network = build_network(PARAMS.network.model_copy(update={"name": name}), 3)
    return network.to(choose_device(device, 1)).train()


def batch_of(count: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return images.to(device), (torch.arange(count) % 3).to(device)


def weights(step: AnyStep) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in step.network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["resnet9", "resnet18"])
def test_a_devices_own_step_is_the_plain_one(device: str, name: str, precision: str) -> None:
    training = recipe_with(precision=precision)
    own = make_step(network_on(device, name), training, batch_of(8, device)[0])
    plain = Step(network_on(device, name), training)

    def train(step: AnyStep) -> list[float]:
        torch.manual_seed(1)
        # Full batches, one of another size among them, and two learning rates, as float32 has them.
        steps = [(8, 0.125), (8, 0.125), (5, 0.25), (8, 0.25), (8, 0.25)]
        return [step(*batch_of(count, device), rate).item() for count, rate in steps]

    assert train(own) == train(plain)
    assert equal(weights(own), weights(plain))


def test_making_a_step_changes_no_weight_and_leaves_no_momentum(device: str) -> None:
    network = network_on(device, "resnet9")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    step = make_step(network, recipe_with(weight_decay=0.0), batch_of(20, device)[0])
    assert equal(before, weights(step))
    step(*batch_of(8, device), 0.0)  # the momentum of what came before would not move weights at this rate
    step.forget_momentum()
    step(*batch_of(8, device), 0.0)
    after = weights(step)
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.endswith("weight"))


def test_each_step_drops_other_units_and_the_seed_decides_which(device: str) -> None:
    step = make_step(network_on(device, "resnet18"), recipe_with(), batch_of(8, device)[0])

    def losses() -> list[float]:
        torch.manual_seed(5)
        return [step(*batch_of(8, device), 0.0).item() for _ in range(3)]  # at rate 0, units alone differ

    first = losses()
    assert len(set(first)) == 3
    assert losses() == first


def test_an_epoch_is_the_same_on_every_device(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    training = recipe_with(augmentation="flip-crop")
    epoch = make_epoch(training, 0, count=20, side=32, slice_id=0, slices=1, generator=generator)
    images, labels = batch_of(20, "cpu")
    here = list(epoch.to(torch.device(device)).batches(images.to(device), labels.to(device)))
    for (x, y, rate), (expected_x, expected_y, expected_rate) in zip(here, epoch.batches(images, labels), strict=True):
        assert x.device.type == device
        assert torch.equal(x.cpu(), expected_x)
        assert torch.equal(y.cpu(), expected_y)
        assert rate == expected_rate
