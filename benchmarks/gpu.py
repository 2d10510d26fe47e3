"""How much of a GPU the training loop uses: images/s beside the usual loop and beside the limit.

    python -m benchmarks.gpu [--samples 10000] [--rounds 3] [--device cuda] [--data docs/results/gpu.json]

naive: the loop of torchvision's tutorials: a DataLoader of two workers over PIL pictures, fp32, a plain network, the
loss read after each step, torch's settings as they come. ours: `train_slice`, three epochs of a shard, with its kernels launched one by one (eager) and
recorded (CUDA graph); its last, smaller batch and its making of epochs are in the time. limit: forward, backward and
step on one batch that is always the same and lies on the device, likewise eager and recorded, in the same precision
and with the same deterministic kernels. All in turn in each round, one process, medians. Ours is also trained twice to see
whether its weights repeat.

Writes the numbers as JSON, and `docs/results/gpu.md` from them: `python -m benchmarks.gpu_page`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from training.chain.keys import make_recipe
from training.params import Training, load_params
from training.recipe.common.device import choose_device
from training.recipe.common.loop import train_slice
from training.recipe.common.step import AnyStep, Step, make_step
from training.recipe.network.classifier import NORMALISATION, Classifier, build_network

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "profiles/cifar10.yaml")
NAIVE_BATCHES = (32, 128)
BATCHES = (32, 128, 512)
EAGER_BATCHES = (128, 512)  # launched one by one, smaller batches take as long a step


def main(
    samples: Annotated[int, typer.Option(help="of a shard: an epoch's images")] = 10_000,
    rounds: Annotated[int, typer.Option(help="how often each way is timed")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "cuda",
    data: Annotated[Path, typer.Option(help="where the numbers go")] = ROOT / "docs/results/gpu.json",
) -> None:
    on = choose_device(device, PARAMS.training.threads)
    images = torch.randint(0, 256, (samples, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (samples,))
    as_torch_comes()
    naive_rates = [
        {"network": name, "batch": batch, "rate": naive(name, images, labels, on, batch)}
        for name in ("resnet9", "resnet18")
        for batch in NAIVE_BATCHES
    ]
    choose_device(device, PARAMS.training.threads)
    print(naive_rates, flush=True)
    rows = []
    for name in ("resnet9", "resnet18"):
        for precision in ("fp32", "bf16"):
            for batch in BATCHES:
                training = PARAMS.training.model_copy(update={"precision": precision, "batch_size": batch})
                row = {"network": name, "precision": precision, "batch": batch}
                row |= measure(name, training, images.to(on), labels.to(on), rounds)
                rows.append(row)
                print(row, flush=True)
    document = {"machine": machine(on), "samples": samples, "rounds": rounds, "naive": naive_rates, "loops": rows}
    data.write_text(json.dumps(document, indent=2) + "\n")


def as_torch_comes() -> None:
    """Without determinism and with TF32 in convolutions, as nobody who follows a tutorial changes it."""
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.allow_tf32 = True


def machine(device: torch.device) -> dict[str, Any]:
    on_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else platform.processor() or platform.machine(),
        "cuda": torch.version.cuda if on_cuda else None,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,  # type: ignore[no-untyped-call]
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def measure(name: str, training: Training, images: Tensor, labels: Tensor, rounds: int) -> dict[str, Any]:
    """Medians of images/s, and how long recording took."""
    steps: dict[str, AnyStep] = {}
    seconds = timed(lambda: steps.update(recorded=make_step(network_on(name, images.device), training, images)))
    fixed = {"recorded": fixed_step(name, training, images.device, recorded=images.is_cuda)}
    if training.batch_size in EAGER_BATCHES:
        steps["eager"] = Step(network_on(name, images.device), training)
        fixed["eager"] = fixed_step(name, training, images.device, recorded=False)
    rates: dict[str, list[float]] = {}
    digests = []
    for _ in range(rounds + 1):
        for way, step in steps.items():
            rate, digest = ours(step, name, training, images, labels)
            rates.setdefault(f"ours_{way}", []).append(rate)
            if way == "recorded":
                digests.append(digest)
        for way, take in fixed.items():
            rates.setdefault(f"limit_{way}", []).append(limit(take, training, len(labels)))
    # The first round warms up: libraries choose kernels and allocate.
    medians = {way: round(statistics.median(values[1:])) for way, values in rates.items()}
    return {**medians, "recording_seconds": round(seconds, 3), "repeats": len(set(digests)) == 1}


def timed(work: Callable[[], object]) -> float:
    """Seconds until the device is done."""
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def network_on(name: str, device: torch.device) -> Classifier:
    torch.manual_seed(0)
    return build_network(PARAMS.network.model_copy(update={"name": name}), 10).to(device)


def ours(step: AnyStep, name: str, training: Training, images: Tensor, labels: Tensor) -> tuple[float, str]:
    """Images/s of a slice's epochs, and a digest of the weights, each time from the same initial ones."""
    step.network.load_state_dict(network_on(name, images.device).state_dict())
    recipe = make_recipe(PARAMS, 0, 10, "none").model_copy(update={"slices": 1, "training": training})
    seconds = timed(lambda: train_slice(step, images, labels, recipe, 0, on_batch=lambda *_: None))
    digest = hashlib.sha256()
    for tensor in step.network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return training.epochs_per_slice * len(labels) / seconds, digest.hexdigest()


def limit(take: Callable[[], None], training: Training, samples: int) -> float:
    count = training.epochs_per_slice * max(1, samples // training.batch_size)

    def work() -> None:
        for _ in range(count):
            take()

    return count * training.batch_size / timed(work)


def fixed_step(name: str, training: Training, device: torch.device, *, recorded: bool) -> Callable[[], None]:
    """A step on one batch of normalised images that is always the same, by torch's own means."""
    network = network_on(name, device).backbone.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        network.parameters(),
        training.learning_rate,
        training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
        fused=device.type == "cuda",
    )
    x = torch.randn(training.batch_size, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(training.batch_size, device=device) % 10

    def take() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            logits = network(x)
        optimizer.zero_grad()
        cross_entropy(logits.float(), y, label_smoothing=training.label_smoothing).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    if not recorded:
        return take
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        take()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        take()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


def naive(name: str, images: Tensor, labels: Tensor, device: torch.device, batch_size: int) -> int:
    """Images/s of an epoch as tutorials train."""
    network = network_on(name, device).backbone.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9, weight_decay=0.001)
    loader: DataLoader[Any] = DataLoader(Pictures(images, labels), batch_size, shuffle=True, num_workers=2)

    def epoch() -> None:
        running = 0.0
        for inputs, targets in loader:
            x, y = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = cross_entropy(network(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            running += loss.item()

    network(torch.randn(batch_size, 3, 32, 32, device=device)).sum().backward()  # libraries load
    return round(len(labels) / timed(epoch))


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """PIL pictures with the usual transforms, as torchvision's CIFAR10 gives them."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.numpy(), labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(*NORMALISATION[PARAMS.network.normalisation]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), self.labels[number]


if __name__ == "__main__":
    typer.run(main)
