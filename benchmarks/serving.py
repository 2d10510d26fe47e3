"""How fast the service answers: against direct calls, against bare Starlette, and by ways to run the shards.

    python -m benchmarks.serving --out docs/results/serving.md

Networks have random weights: speed does not depend on them. Whatever is compared runs in turns in one
run, and the ratio is taken turn by turn: the machine's mood cancels out.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import psutil
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from serving.ensemble.loading import load_ensemble
from serving.ensemble.manifest import Forgotten, Manifest, ShardEntry
from training.chain.keys import make_recipe
from training.params import load_params
from training.publish.export import export
from training.recipe.network.classifier import build_network

SIDE, CLASSES = 32, 10
CORES = os.cpu_count() or 1
TURNS = 5
SECONDS = 1.5  # of every measurement

Images = NDArray[np.uint8]


def main(
    out: Annotated[Path, typer.Option(help="where the tables go")] = Path("docs/results/serving.md"),
    seconds: Annotated[float, typer.Option(help="of every measurement")] = SECONDS,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, large, narrow = (Path(folder) / name for name in ("small", "large", "narrow"))
        make_ensemble(small, "resnet18", 5)
        make_ensemble(large, "resnet18", 20)
        make_ensemble(narrow, "resnet9", 5)
        parts = [
            heading(),
            strategies({"ResNet-18, S = 5": small, "ResNet-18, S = 20": large, "ResNet-9, S = 5": narrow}, seconds),
            over_http("ResNet-18, S = 5", small, seconds),
            over_http("ResNet-9, S = 5", narrow, seconds),
            footprint({"ResNet-18, S = 5": small, "ResNet-18, S = 20": large, "ResNet-9, S = 5": narrow}),
        ]
    out.write_text("\n\n".join(parts) + "\n")
    print(f"written: {out}")


def make_ensemble(models: Path, network: str, shards: int) -> None:
    """Publish an ensemble of untrained networks."""
    (models / "onnx").mkdir(parents=True)
    entries = []
    params = load_params(Path(__file__).parents[1] / "profiles/cifar10.yaml")
    params = params.model_copy(update={"network": params.network.model_copy(update={"name": network})})
    for shard_id in range(shards):
        recipe = make_recipe(params, shard_id, CLASSES, "none")
        torch.manual_seed(shard_id)
        state = build_network(recipe.network, CLASSES).state_dict()
        weights = {name: tensor.numpy() for name, tensor in state.items()}
        content, _ = export(recipe, weights, models / "graph.onnx", {"shard": str(shard_id)})
        digest = hashlib.sha256(content).hexdigest()
        file = f"onnx/shard-{shard_id}-{digest[:16]}.onnx"
        (models / file).write_bytes(content)
        entry = ShardEntry(shard=shard_id, retained=1, key="", abstains=False, file=file, sha256=digest)
        entries.append(entry)
    manifest = Manifest(
        generation=1,
        aggregation="mean",
        classes=tuple(str(label) for label in range(CLASSES)),
        image_shape=(SIDE, SIDE, 3),
        forgotten=Forgotten(listed=0, already_gone=0, sha256=""),
        shards=tuple(entries),
    )
    (models / "ensemble.json").write_bytes(manifest.to_bytes())


def heading() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    names = ("bentoml", "onnxruntime", "starlette", "uvicorn", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"""# Serving: speed and memory

Made by `python -m benchmarks.serving` at commit {commit.stdout.strip()}, {time.strftime("%Y-%m-%d")}, on {CORES} cores of
{cpu}, Python {platform.python_version()}, {versions}.
Load average before the run: {os.getloadavg()[0]:.1f}. The client runs on the same cores. Images of 32 × 32; networks with random
weights. Ratios are medians over {TURNS} turns, in each of which the things compared run one after the other."""


def rate(work: Callable[[], object], images: int, seconds: float) -> float:
    """Images per second of repeated ``work``."""
    work()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        work()
        count += 1
    return count * images / elapsed


def compare(contenders: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Rates by name, one of each in every turn; the order changes from turn to turn."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(contenders[name]())
    return rates


def ratio(rates: dict[str, list[float]], name: str, reference: str) -> float:
    return statistics.median(one / other for one, other in zip(rates[name], rates[reference], strict=True))


def strategies(ensembles: dict[str, Path], seconds: float) -> str:
    rows = []
    for label, models in tqdm(ensembles.items(), desc="strategies"):
        files = [models / shard["file"] for shard in json.loads((models / "ensemble.json").read_text())["shards"]]
        pooled = load_ensemble(models, threads=CORES)
        default = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files]
        fused = onnxruntime.InferenceSession(fuse(files), providers=["CPUExecutionProvider"])
        for size in (1, 8, 64):
            images = noise(size)
            ways: dict[str, Callable[[], object]] = {
                "in turn": partial(run_in_turn, default, images),
                "pool": partial(pooled.shard_probabilities, images),
                "fused": partial(fused.run, None, {"images": images}),
            }
            rates = compare({name: partial(rate, way, size, seconds) for name, way in ways.items()})
            middle = {name: statistics.median(values) for name, values in rates.items()}
            rows.append(
                f"| {label} | {size} | {middle['in turn']:.0f} | **{middle['pool']:.0f}** | {middle['fused']:.0f} | "
                f"{ratio(rates, 'pool', 'in turn'):.2f} | {ratio(rates, 'pool', 'fused'):.2f} |"
            )
    table = "\n".join(rows)
    return f"""## Ways to run the shards

Images per second, no HTTP. *In turn*: one session after the other, each with onnxruntime's default threads. *Pool* (what the
service does): one thread a session, sessions side by side. *Fused*: all shards in one graph, onnxruntime's default threads; it
would have to be rebuilt whenever one shard changes.

| ensemble | batch | in turn | pool | fused | pool / in turn | pool / fused |
|---|---|---|---|---|---|---|
{table}"""


def run_in_turn(sessions: list[onnxruntime.InferenceSession], images: Images) -> None:
    for session in sessions:
        session.run(None, {"images": images})


def fuse(files: list[Path]) -> bytes:
    """One graph of all shards with common input ``images``; one output a shard."""
    whole = None
    for number, file in enumerate(files):
        part = onnx.compose.add_prefix(onnx.load(file), f"s{number}/", rename_inputs=False)
        if whole is None:
            whole = part
            continue
        whole.graph.node.extend(part.graph.node)
        whole.graph.initializer.extend(part.graph.initializer)
        whole.graph.output.extend(part.graph.output)
        whole.functions.extend(part.functions)
    assert whole is not None
    content: bytes = whole.SerializeToString()
    return content


def noise(count: int, side: int = SIDE) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def over_http(label: str, models: Path, seconds: float) -> str:
    direct = load_ensemble(models, threads=CORES)
    rows = []
    with service(models) as served, bare(models) as plain:
        cells = [(kind, size, clients) for kind in BODIES for size in (1, 8, 64) for clients in (1, 16)]
        for kind, size, clients in tqdm(cells, desc=f"HTTP, {label}"):
            images = noise(size)
            request = http_request(kind, images)
            rates = compare(
                {
                    "direct": partial(rate, partial(direct.shard_probabilities, images), size, seconds),
                    "service": partial(load, served.port, request, size, clients, seconds),
                    "bare": partial(load, plain.port, request, size, clients, seconds),
                }
            )
            direct_, bare_, service_ = (statistics.median(rates[name]) for name in ("direct", "bare", "service"))
            rows.append(
                f"| {kind} | {size} | {clients} | {direct_:.0f} | {bare_:.0f} | **{service_:.0f}** | "
                f"{ratio(rates, 'service', 'direct'):.2f} | {ratio(rates, 'service', 'bare'):.2f} |"
            )
    table = "\n".join(rows)
    return f"""## Over HTTP: {label}

Images per second. *Direct*: the same sessions called in this process, one batch of the request's size after the other. *Bare*:
Starlette with the same HTTP parser, event loop, decoders and batcher and nothing else (`benchmarks/bare.py`). One worker each.

| body | images a request | clients | direct | bare | service | service / direct | service / bare |
|---|---|---|---|---|---|---|---|
{table}"""


def npy_body(images: Images) -> tuple[str, str, bytes]:
    file = io.BytesIO()
    np.save(file, images)
    return "/v1/predict/npy", "application/x-npy", file.getvalue()


def json_body(images: Images) -> tuple[str, str, bytes]:
    return "/v1/predict", "application/json", json.dumps({"images": images.tolist()}).encode()


def png_body(images: Images) -> tuple[str, str, bytes]:
    body = io.BytesIO()
    for image in images:
        body.write(b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n')
        Image.fromarray(image).save(body, "PNG")
        body.write(b"\r\n")
    body.write(b"--b--\r\n")
    return "/v1/predict/image", "multipart/form-data; boundary=b", body.getvalue()


BODIES = {".npy": npy_body, "JSON": json_body, "PNG": png_body}


def http_request(kind: str, images: Images) -> bytes:
    path, media_type, body = BODIES[kind](images)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def load(port: int, request: bytes, images: int, clients: int, seconds: float) -> float:
    """Images per second that ``clients`` get, each asking again as soon as it is answered."""
    stop = threading.Event()

    def ask(_: int) -> int:
        count = 0
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not stop.is_set():
                connection.sendall(request)
                receive(connection)
                count += 1
        return count

    with ThreadPoolExecutor(clients) as crowd:
        start = time.perf_counter()
        counts = [crowd.submit(ask, number) for number in range(clients)]
        time.sleep(seconds)
        stop.set()
        total = sum(count.result() for count in counts)
        return total * images / (time.perf_counter() - start)


def receive(connection: socket.socket) -> None:
    """Reads one answer; raises RuntimeError when it is not a 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (received := connection.recv(1 << 16)):
            raise ConnectionError("the server closed the connection")
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(data.decode())
    (length,) = (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    missing = length - len(body)
    while missing > 0:
        missing -= len(connection.recv(1 << 16))


@dataclass(frozen=True)
class Running:
    """A server of its own on a free port."""

    port: int
    process: subprocess.Popen[bytes]

    def worker_memory(self) -> float:
        """Resident memory, in MB, of the process that holds the models."""
        processes = psutil.Process(self.process.pid).children(recursive=True)
        return max(float(process.memory_info().rss) for process in processes) / 1e6


@contextmanager
def started(command: list[str], models: Path, side: int = SIDE) -> Iterator[Running]:
    """A server, once it answers to an image of ``side`` × ``side`` pixels."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "SISA_SERVE_MODELS": str(models),
        "SISA_SERVE_STATE": str(models / "state"),
    }
    with (models / "server.log").open("ab") as log:
        server = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    request = http_request(".npy", noise(1, side))
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(request)
                    receive(connection)
                break
            except (OSError, RuntimeError, ValueError):  # not there yet
                if server.poll() is not None:
                    raise RuntimeError((models / "server.log").read_text()[-2000:]) from None
                time.sleep(0.05)
        yield Running(port, server)
    finally:
        server.terminate()
        server.wait()


def service(models: Path, side: int = SIDE) -> AbstractContextManager[Running]:
    return started([sys.executable, "-m", "bentoml", "serve", "serving.service:Sisa"], models, side)


def bare(models: Path) -> AbstractContextManager[Running]:
    quiet = ["--log-level", "error", "--no-access-log"]
    same = ["--http", "httptools", "--loop", "uvloop"]  # as the service
    return started([sys.executable, "-m", "uvicorn", *quiet, *same, "benchmarks.bare:app"], models)


def footprint(ensembles: dict[str, Path]) -> str:
    rows = []
    for label, models in tqdm(ensembles.items(), desc="footprint"):
        weights = sum(file.stat().st_size for file in (models / "onnx").iterdir()) / 1e6
        start = time.perf_counter()
        with service(models) as running:
            ready = time.perf_counter() - start
            idle = running.worker_memory()
            load(running.port, http_request(".npy", noise(64)), 64, 4, 3)
            loaded = running.worker_memory()
        rows.append(f"| {label} | {weights:.0f} MB | {idle:.0f} MB | {loaded:.0f} MB | {ready:.1f} s |")
    table = "\n".join(rows)
    return f"""## Memory and start

A worker's resident memory once ready and after batches of 64, and the time from `bentoml serve` to the first answer.

| ensemble | models on disk | ready | after load | start |
|---|---|---|---|---|
{table}"""


if __name__ == "__main__":
    typer.run(main)
