"""How much of the machine the training loop uses: images/s beside the naive way and beside the limit.

    python -m benchmarks.training_loop [--pictures 4096] [--rounds 3]

naive: a DataLoader over PIL pictures with torchvision's RandomCrop, flip and Normalize, one process.
ours: training.recipe.common.loop.train_slice.
limit: forward, backward and step on one batch that is always the same, nothing around it.
All three in turn in each round, one process, medians; only their ratios carry from machine to machine.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from training.chain.keys import make_recipe
from training.learning import Sgd, by_sgd, trained_network
from training.params import load_params
from training.recipe.common.device import choose_device
from training.recipe.common.loop import train_slice
from training.recipe.common.step import make_step
from training.recipe.network.classifier import NORMALISATION, build_network

PARAMS = load_params(Path(__file__).parents[1] / "profiles/cifar10.yaml")
CIFAR10 = by_sgd(PARAMS.training)
NETWORK = trained_network(PARAMS.network)


def main(
    pictures: Annotated[int, typer.Option(help="pictures in an epoch")] = 4096,
    rounds: Annotated[int, typer.Option(help="how often each way is timed")] = 3,
) -> None:
    device = choose_device("auto", CIFAR10.threads)
    training = CIFAR10.model_copy(update={"epochs_per_slice": 1})
    images = torch.randint(0, 256, (pictures, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (pictures,))
    ways: dict[str, Callable[[torch.Tensor, torch.Tensor, Sgd, torch.device], None]] = {
        "naive": naive,
        "ours": ours,
        "limit": limit,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(images, labels, training, device)
            if device.type == "cuda":
                torch.cuda.synchronize()
            rates[name].append(pictures / (time.perf_counter() - start))
    median = {name: statistics.median(values) for name, values in rates.items()}
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    recipe = f"batch {training.batch_size}, {training.precision}, {training.augmentation}"
    print(f"resnet9, {recipe}, {pictures} pictures, {rounds} rounds")
    for name, rate in median.items():
        print(f"{name:6} {rate:8.0f} images/s  {rate / median['limit']:.2f} of the limit")


def ours(images: torch.Tensor, labels: torch.Tensor, training: Sgd, device: torch.device) -> None:
    images, labels = images.to(device), labels.to(device)
    recipe = make_recipe(PARAMS, 0, 10, "none").model_copy(update={"slices": 1, "training": training})
    step = make_step(build_network(NETWORK, 10).to(device), training, images)
    train_slice(step, images, labels, recipe, 0, on_batch=lambda *_: None)


def naive(images: torch.Tensor, labels: torch.Tensor, training: Sgd, device: torch.device) -> None:
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*NORMALISATION[NETWORK.normalisation]),
        ]
    )
    samples = list(zip((Image.fromarray(picture) for picture in images.numpy()), labels.tolist(), strict=True))
    loader: DataLoader[object] = DataLoader(
        samples,  # type: ignore[arg-type]
        training.batch_size,
        shuffle=True,
        collate_fn=lambda batch: (torch.stack([transform(x) for x, _ in batch]), torch.tensor([y for _, y in batch])),
    )
    network = build_network(NETWORK, 10).to(device).backbone
    optimizer = sgd(network, training)
    for x, y in loader:
        step(network, optimizer, x.to(device), y.to(device), training)


def limit(images: torch.Tensor, labels: torch.Tensor, training: Sgd, device: torch.device) -> None:
    network = build_network(NETWORK, 10).to(device).backbone.to(memory_format=torch.channels_last)
    optimizer = sgd(network, training)
    x = torch.randn(training.batch_size, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    y = labels[: training.batch_size].to(device)
    for _ in range(len(images) // training.batch_size):
        step(network, optimizer, x, y, training)


def sgd(network: torch.nn.Module, training: Sgd) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(),
        training.learning_rate,
        training.momentum,
        nesterov=True,
        weight_decay=training.weight_decay,
    )


def step(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, training: Sgd
) -> None:
    loss = cross_entropy(network(x), y, label_smoothing=training.label_smoothing)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


if __name__ == "__main__":
    typer.run(main)
