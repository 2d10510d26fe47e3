"""A real server to talk to: `bentoml serve` in a folder of its own, on models small enough to do by hand.

Every shard answers softmax(10 · mean of each channel / 255 + bias): a red picture is "red" unless a
bias of more than 10 says otherwise.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from serving.ensemble.manifest import Forgotten, Manifest, ShardEntry

REPOSITORY = Path(__file__).parents[1]
CLASSES = ("red", "green", "blue")
SIDE = 4
RED, GREEN, BLUE = (np.array(colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))

Bias = Sequence[float]
FLAT: Bias = (0, 0, 0)


def picture(colour: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """(side, side, 3), all of one colour."""
    return np.tile(colour, (side, side, 1))


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def npy(images: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, images)
    return file.getvalue()


def colour_model(bias: Bias, side: int = SIDE, work: int = 0) -> bytes:
    """ONNX: (N, side, side, 3) uint8 to (N, 3) probabilities.

    ``work``: rounds of needless arithmetic, some 10 ms each, for a model that takes its time.
    """
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=types.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("ReduceMax", ["floats"], ["most"], keepdims=0),
            helper.make_node("Add", ["square", "most"], ["work-0"]),  # of the input, or it would be done in advance
            *(helper.make_node("MatMul", [f"work-{n}", "square"], [f"work-{n + 1}"]) for n in range(work)),
            helper.make_node("ReduceSum", [f"work-{work}"], ["done"], keepdims=0),
            helper.make_node("Mul", ["done", "zero"], ["nothing"]),
            helper.make_node("Mul", ["means", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "bias"], ["biased"]),
            helper.make_node("Add", ["biased", "nothing"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colour",
        [helper.make_tensor_value_info("images", types.UINT8, ["N", side, side, 3])],
        [helper.make_tensor_value_info("probabilities", types.FLOAT, ["N", 3])],
        [
            onnx.numpy_helper.from_array(np.array([1, 2]), "axes"),
            onnx.numpy_helper.from_array(np.array(10 / 255, np.float32), "scale"),
            onnx.numpy_helper.from_array(np.array(bias, np.float32), "bias"),
            onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"),
            onnx.numpy_helper.from_array(np.zeros((700, 700) if work else (1, 1), np.float32), "square"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def publish(models: Path, generation: int, biases: Sequence[Bias | None], side: int = SIDE, work: int = 0) -> None:
    """Publish as `assemble` does: models first, then the manifest in one step. No bias: an abstaining shard."""
    (models / "onnx").mkdir(parents=True, exist_ok=True)
    shards = []
    for number, bias in enumerate(biases):
        entry = ShardEntry(shard=number, retained=0, key=f"{number:064x}", abstains=True, file=None, sha256=None)
        if bias is not None:
            content = colour_model(bias, side, work)
            digest = hashlib.sha256(content).hexdigest()
            file = f"onnx/shard-{number}-{digest[:16]}.onnx"
            if not (models / file).exists():  # its name says what is in it; someone may be reading
                (models / file).write_bytes(content)
            changes = {"retained": 100, "abstains": False, "file": file, "sha256": digest}
            entry = entry.model_copy(update=changes)
        shards.append(entry)
    manifest = Manifest(
        generation=generation,
        aggregation="mean",
        classes=CLASSES,
        image_shape=(side, side, 3),
        forgotten=Forgotten(listed=generation - 1, already_gone=0, sha256="0" * 64),
        shards=tuple(shards),
    )
    write_manifest(models, manifest.to_bytes().decode())


def write_manifest(models: Path, text: str) -> None:
    (models / "ensemble.new").write_text(text)
    (models / "ensemble.new").replace(models / "ensemble.json")


def free_port() -> int:
    """One that no connection of another test can take meanwhile, as it could one that the system gives away."""
    while True:
        port = random.randrange(15_000, 32_000)  # below Linux's range for outgoing connections
        with socket.socket() as attempt, suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            return port


class Server:
    """`bentoml serve` with the code of this repository, in ``folder``; use it in a ``with`` statement."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None, **settings: Any) -> None:
        self.folder, self.models = folder, folder / "models"
        self._environment = environment or {}
        self.prepare(settings)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"

    def prepare(self, settings: dict[str, Any]) -> None:
        if not (self.folder / "serving").exists():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / "serving", self.folder / "serving", ignore=ignore)
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"serve": {"threads": 1, **settings}}))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bentoml", "serve", "serving.service:Sisa"]

    def __enter__(self) -> Server:
        self.start()
        self.wait(lambda: self.status("/livez") == 200)
        return self

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), "--port", str(self.port)],
                cwd=self.folder,
                env={
                    **os.environ,
                    "BENTOML_DO_NOT_TRACK": "True",
                    "BENTOML_HOME": str(self.folder / "bentoml"),
                    **self._environment,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As an operator does; what is still there after that is killed."""
        self.process.terminate()
        try:
            self.process.wait(60)  # a request at work is waited for, and may take the 30 s of serve.timeout_seconds
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise

    def status(self, path: str) -> int | None:
        try:
            return httpx.get(self.url + path, timeout=10).status_code
        except httpx.TransportError:
            return None

    def wait(self, condition: Any, seconds: float = 60) -> None:
        """Until ``condition()`` is true."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not get there; its log:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)


LOVES_GREEN: Bias = (0, 20, 0)
LIMITS: dict[str, Any] = {"max_images": 64, "max_body_bytes": 200_000, "max_pixels": 1_000_000}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that only ask: five shards, one of which abstains and one of which says green to everything."""
    folder = tmp_path_factory.mktemp("server")
    publish(folder / "models", 7, [FLAT, None, LOVES_GREEN, FLAT, (1, 0, 0)])
    with Server(folder, **LIMITS) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running
