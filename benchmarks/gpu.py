"""How much of a GPU the training loop uses: images/s beside the usual loop and beside the limit.

    python -m benchmarks.gpu loops [--samples 10000] [--rounds 3] [--device cuda] [--data docs/results/gpu.json]
    python -m benchmarks.gpu cifar10 [--source data/raw]

naive: the loop of torchvision's tutorials: a DataLoader of two workers over PIL pictures, fp32, a plain network, the
loss read after each step, torch's settings as they come. ours: `train_slice`, three epochs of a shard, with its kernels
launched one by one (eager) and recorded (CUDA graph); its last, smaller batch and its making of epochs are in the time.
limit: forward, backward and step on one batch that is always the same and lies on the device, likewise eager and
recorded, in the same precision and with the same deterministic kernels. Ours and limit in turn in each round, one
process, medians. Ours is trained from the same weights in each round, and they must repeat.

cifar10: the pipeline's stages on CIFAR-10 with ResNet-18, once.

Both write their part of the data, and `docs/results/gpu.md`.
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

from benchmarks.grid import Cell, run
from benchmarks.pages import write_page
from training.chain.keys import make_recipe
from training.files import write_atomic
from training.learning import Sgd, by_sgd, trained_network
from training.params import load_params
from training.recipe.common.device import choose_device
from training.recipe.common.loop import train_slice
from training.recipe.common.step import AnyStep, Step, make_step
from training.recipe.network.classifier import NORMALISATION, Classifier, build_network

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "profiles/cifar10.yaml")
DATA = ROOT / "docs/results/gpu.json"
NETWORKS = ("resnet9", "resnet18")
NAIVE_BATCHES = (32, 128)
BATCHES = (32, 128, 512)
EAGER_BATCHES = (128, 512)  # launched one by one, smaller batches take as long a step
CIFAR10 = Cell(shards=5, slices=10, network="resnet18", batch_size=128, learning_rate=0.1)

app = typer.Typer()


@app.command()
def loops(
    samples: Annotated[int, typer.Option(help="of a shard: an epoch's images")] = 10_000,
    rounds: Annotated[int, typer.Option(help="how often each way is timed")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "cuda",
    data: Annotated[Path, typer.Option(help="where the numbers go")] = DATA,
) -> None:
    on = choose_device(device, PARAMS.training.threads)
    images = torch.randint(0, 256, (samples, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (samples,))
    as_torch_comes()
    naive_rates = [
        {"network": name, "batch": batch, "rate": naive(name, images, labels, on, batch)}
        for name in NETWORKS
        for batch in NAIVE_BATCHES
    ]
    choose_device(device, PARAMS.training.threads)
    print(naive_rates, flush=True)
    rows = []
    for name in NETWORKS:
        for precision in ("fp32", "bf16"):
            for batch in BATCHES:
                training = by_sgd(PARAMS.training).model_copy(update={"precision": precision, "batch_size": batch})
                row = {"network": name, "precision": precision, "batch": batch}
                row |= measure(name, training, images.to(on), labels.to(on), rounds)
                rows.append(row)
                print(row, flush=True)
    keep(data, machine=machine(on), samples=samples, rounds=rounds, naive=naive_rates, loops=rows)


@app.command()
def cifar10(
    folder: Annotated[Path, typer.Option(help="the workspace; what is in it is replaced")] = ROOT / ".grid",
    source: Annotated[Path, typer.Option(help="folder of cifar-10-batches-py")] = ROOT / "data/raw",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "cuda",
    data: Annotated[Path, typer.Option(help="where the numbers go")] = DATA,
) -> None:
    result = run(CIFAR10, folder, source, device)
    print(json.dumps(result), flush=True)
    keep(data, cifar10=result)


def keep(data: Path, **parts: Any) -> None:
    """Write parts of the data, and the page of all of it once there are loops."""
    document = {**(json.loads(data.read_text()) if data.is_file() else {}), **parts}
    write_atomic(data, json.dumps(document, indent=2).encode() + b"\n")
    if "loops" in document:
        write_page(data.with_suffix(".md"), page(document), "benchmarks.gpu")


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


def measure(name: str, training: Sgd, images: Tensor, labels: Tensor, rounds: int) -> dict[str, Any]:
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


def ours(step: AnyStep, name: str, training: Sgd, images: Tensor, labels: Tensor) -> tuple[float, str]:
    """Images/s of a slice's epochs, and a digest of the weights, each time from the same initial ones."""
    step.network.load_state_dict(network_on(name, images.device).state_dict())
    recipe = make_recipe(PARAMS, 0, 10, "none").model_copy(update={"slices": 1, "training": training})
    seconds = timed(lambda: train_slice(step, images, labels, recipe, 0, on_batch=lambda *_: None))
    digest = hashlib.sha256()
    for tensor in step.network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return training.epochs_per_slice * len(labels) / seconds, digest.hexdigest()


def limit(take: Callable[[], None], training: Sgd, samples: int) -> float:
    count = training.epochs_per_slice * max(1, samples // training.batch_size)

    def work() -> None:
        for _ in range(count):
            take()

    return count * training.batch_size / timed(work)


def fixed_step(name: str, training: Sgd, device: torch.device, *, recorded: bool) -> Callable[[], None]:
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

    def replay(_: Callable[[], None] = take) -> None:  # the graph does not own what it reads and writes
        graph.replay()

    return replay


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
                v2.Normalize(*NORMALISATION[trained_network(PARAMS.network).normalisation]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), self.labels[number]


def page(document: dict[str, Any]) -> str:
    where = document["machine"]
    naive_rates = {(row["network"], row["batch"]): row["rate"] for row in document["naive"]}
    parts = [
        "# The training loop on a GPU\n",
        f"{where['device']}, {where['cores']} cores of its host; Python {where['python']}, torch {where['torch']}, CUDA {where['cuda']}, "
        f"cuDNN {where['cudnn']}. Images of noise, 32 × 32, {document['samples']:,} of them, 3 epochs, `flip-crop`; images/s, medians of "
        f"{document['rounds']} rounds.\n",
        "naive: the loop of torchvision's tutorials (`DataLoader` of two workers, PIL, fp32, the loss read after each step, torch's own settings):\n",
        "| network | batch | naive |\n|---|---|---|",
        *(f"| {row['network']} | {row['batch']} | {row['rate']:,} |" for row in document["naive"]),
        "\nours: `train_slice`, deterministic, everything between two epochs included. limit: forward, backward and step on one batch "
        "that is always the same, as deterministic and in the same precision; both once with kernels launched one by one (eager) and "
        "once recorded as a CUDA graph, which is how the trainer runs on a GPU.\n",
        "| network | precision | batch | ours, eager | limit, eager | of it | **ours, recorded** | limit, recorded | of it | × naive of batch 128 | bits repeat |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(loop_row(row, naive_rates[row["network"], 128]) for row in document["loops"]),
    ]
    if "cifar10" in document:
        parts += ["\n## CIFAR-10\n", cifar10_line(document["cifar10"])]
    return "\n".join([*parts, "\n```sh\npython -m benchmarks.gpu loops\npython -m benchmarks.gpu cifar10\n```"])


def loop_row(row: dict[str, Any], naive_rate: int) -> str:
    def beside(way: str) -> str:
        if f"ours_{way}" not in row:
            return "– | – | –"
        ours, limit = row[f"ours_{way}"], row[f"limit_{way}"]
        return f"{ours:,} | {limit:,} | {ours / limit:.2f}"

    return (
        f"| {row['network']} | {row['precision']} | {row['batch']} | {beside('eager')} | {beside('recorded')} | "
        f"{row['ours_recorded'] / naive_rate:.1f} | {'yes' if row['repeats'] else '**no**'} |"
    )


def cifar10_line(result: dict[str, Any]) -> str:
    cell, seconds = result["cell"], result["stage_seconds"]
    return (
        f"{cell['network']} from scratch, S = {cell['shards']}, R = {cell['slices']}, {cell['epochs_per_slice']} epochs a slice, batch "
        f"{cell['batch_size']}, learning rate {cell['learning_rate']}, {cell['precision']}, otherwise `profiles/cifar10.yaml`: "
        f"**{result['training_seconds']:.1f} s of training** for {result['sample_epochs']:,} sample-epochs, accuracy "
        f"{result['mean']['accuracy']:.4f} (mean) and {result['vote']['accuracy']:.4f} (vote) on all 10,000 test pictures. Seconds of the whole "
        f"stages, exports and checkpoints included: {', '.join(f'{name} {value}' for name, value in seconds.items())}."
    )


if __name__ == "__main__":
    app()
