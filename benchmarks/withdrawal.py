"""How long a withdrawn model goes on answering: of a real service under load, from the first word to the last answer.

    python -m benchmarks.withdrawal --workspace . --workers 1 --out docs/results/withdrawal/1-worker.json

The workspace is one after `dvc repro` with five shards or more; everything happens to a copy of it. Clients ask for single
images at half the rate that the service can answer. Meanwhile one model after the other is withdrawn, by
`sisa forget add` in a process of its own or by ``POST /v1/withdraw``, and its shard answers again before the next one:
trained again in the first case, with a model of another digest in the second. An answer tells its generation and
which shards are pending, so it is known of every single one which models took part.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import onnx
import typer
from tqdm import tqdm

from serving.ensemble.manifest import Manifest
from training.data.store import load_shard
from training.files import write_atomic
from training.workspace import Workspace

TOKEN = "benchmark"
CLIENTS = 16
CAPACITY_SECONDS = 5.0
AFTER = 10  # answers asked for after a withdrawal, before its shard is let back
IGNORED = shutil.ignore_patterns(".git", ".venv", ".uv", "cache", ".drills", "tmp", "raw", "__pycache__")


@dataclass(frozen=True)
class Answer:
    """``asked``, ``received``: in seconds of the monotonic clock. ``status``: 0 where the connection failed."""

    asked: float
    received: float
    status: int
    generation: int = 0
    pending: tuple[int, ...] = ()


@dataclass
class Timeline:
    """``listed``: by generation, the digest of each shard's model. ``gone``: when each withdrawal was confirmed."""

    listed: dict[int, dict[int, str]] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)

    def note(self, manifest: Manifest) -> None:
        self.listed[manifest.generation] = {shard.shard: str(shard.sha256) for shard in manifest.voters}

    def models(self, answer: Answer) -> set[str]:
        """Those that took part in it."""
        listed = self.listed[answer.generation]
        return {digest for shard, digest in listed.items() if shard not in answer.pending}

    def seconds(self, answers: Sequence[Answer], digest: str, start: float) -> float:
        """From ``start`` to the last answer in which the model took part; 0 when none came after it."""
        ends = [each.received for each in answers if each.status == 200 and digest in self.models(each)]
        return max(0.0, max(ends, default=start) - start)

    def stale(self, answers: Sequence[Answer]) -> int:
        """Answers that were asked for after a model was withdrawn, and in which it took part."""
        return sum(
            any(self.gone.get(digest, np.inf) < each.asked for digest in self.models(each))
            for each in answers
            if each.status == 200
        )


def main(
    *,
    workspace: Annotated[Path, typer.Option(help="the workspace, after `dvc repro`")] = Path(),
    out: Annotated[Path, typer.Option(help="where the numbers go")] = Path("docs/results/withdrawal/times.json"),
    workers: Annotated[int, typer.Option(help="of the service")] = 1,
    deletions: Annotated[int, typer.Option(help="by `sisa forget add`")] = 50,
    requests: Annotated[int, typer.Option(help="by `POST /v1/withdraw`")] = 1000,
    seed: int = 0,
) -> None:
    """Write what was measured; what ``out`` has of the way that is measured 0 times stays."""
    document: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    document |= {"workers": workers, "clients": CLIENTS}
    out.parent.mkdir(parents=True, exist_ok=True)
    ways: dict[str, tuple[int, Callable[[Path, int, int, int], dict[str, Any]]]] = {
        "request": (requests, by_request),
        "command": (deletions, by_command),
    }
    for way, (count, measure) in ways.items():
        if count:
            with tempfile.TemporaryDirectory() as folder:
                project = Path(folder) / "project"
                shutil.copytree(workspace, project, ignore=IGNORED)
                document[way] = {"environment": environment(), **measure(project, workers, count, seed)}
            shown = {name: value for name, value in document[way].items() if name not in ("seconds", "environment")}
            print(f"{workers} workers, by {way}: {shown}")
            out.write_text(json.dumps(document, indent=1) + "\n")


def by_request(project: Path, workers: int, count: int, seed: int) -> dict[str, Any]:
    """One model after the other by HTTP; its shard comes back with the same weights in a file of another digest."""
    place, timeline = Workspace(project), Timeline()
    manifest = read(place, timeline)
    with service(place, workers) as url, load(url, manifest, timeline) as traffic, httpx.Client(timeout=60) as client:
        traffic.settle()
        seconds, ends = [], []
        for number in tqdm(range(count), desc=f"{workers} workers, by request"):
            shard = manifest.voters[number % len(manifest.voters)]
            digest = str(shard.sha256)
            start = time.monotonic()
            told = client.post(
                f"{url}/v1/withdraw", json={"sha256": [digest]}, headers={"Authorization": f"Bearer {TOKEN}"}
            )
            end = time.monotonic()
            assert told.json()["listed"] == [digest], told.text
            timeline.gone[digest] = end
            ends.append(end - start)
            traffic.wait_until_asked_after(end)
            seconds.append(timeline.seconds(traffic.since(start), digest, start))
            manifest = let_back(place, manifest, shard.shard, number, timeline)
            traffic.wait_for(manifest.generation)
        return traffic.result(seconds) | {"confirmed": spread(ends)}


def let_back(place: Workspace, manifest: Manifest, shard_id: int, number: int, timeline: Timeline) -> Manifest:
    """Publish a generation in which a shard has a model of another digest."""
    shard = next(each for each in manifest.shards if each.shard == shard_id)
    old = place.models_folder / str(shard.file)
    model = onnx.load(old)
    onnx.helper.set_model_props(model, {"number": str(number)})
    content = model.SerializeToString(deterministic=True)
    sha256 = hashlib.sha256(content).hexdigest()
    path = place.published_file(shard_id, sha256)
    write_atomic(path, content)
    entry = shard.model_copy(
        update={"file": path.relative_to(place.models_folder).as_posix(), "sha256": sha256, "pending": False}
    )
    shards = tuple(entry if each.shard == shard_id else each for each in manifest.shards)
    fresh = manifest.model_copy(update={"generation": manifest.generation + 1, "shards": shards})
    timeline.note(fresh)
    write_atomic(place.manifest_file, fresh.to_bytes())
    old.unlink()
    return fresh


def by_command(project: Path, workers: int, count: int, seed: int) -> dict[str, Any]:
    """One sample after the other by `sisa forget add`; its shard is trained again.

    Samples are of the last slice, the cheapest to train again: what a withdrawal takes does not depend on the slice.
    """
    place, timeline, random = Workspace(project), Timeline(), np.random.default_rng(seed)
    manifest = read(place, timeline)
    environment_ = {name: value for name, value in os.environ.items() if name != "SISA_ADMIN_TOKEN"}
    seconds, ends, cpu = [], [], []
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as trainer,
        service(place, workers) as url,
        load(url, manifest, timeline) as traffic,
    ):
        trainer.submit(os.getpid).result()
        traffic.settle()
        for number in tqdm(range(count), desc=f"{workers} workers, by command"):
            shard = manifest.voters[number % len(manifest.voters)]
            rows = load_shard(place.shard_file(shard.shard))
            last = np.flatnonzero(rows.slices == rows.slices.max())
            victim = rows.ids[int(random.choice(last))]
            used = cpu_of_children()
            start = time.monotonic()
            command = [sys.executable, "-m", "training.commands.app", "forget", "add", victim]
            done = subprocess.run(command, cwd=project, env=environment_, check=False, capture_output=True, text=True)
            end = time.monotonic()
            if done.returncode != 0:
                raise RuntimeError(done.stderr)
            timeline.gone[str(shard.sha256)] = end
            cpu.append(cpu_of_children() - used)
            now = read(place, timeline)
            assert [each.shard for each in now.shards if each.pending] == [shard.shard]
            traffic.wait_until_asked_after(end)
            ends.append(end - start)
            seconds.append(timeline.seconds(traffic.since(start), str(shard.sha256), start))
            for content in trainer.submit(train_again, project, shard.shard).result():
                manifest = Manifest.model_validate_json(content)
                timeline.note(manifest)
            traffic.wait_for(manifest.generation)
        return traffic.result(seconds) | {"confirmed": spread(ends), "cpu": spread(cpu)}


def cpu_of_children() -> float:
    """Seconds of processor time that children have used which have ended: service and trainer have not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def train_again(project: Path, shard_id: int) -> list[bytes]:
    """What `dvc repro` does for one shard, in a process that keeps torch loaded; the manifests that it publishes."""
    from training.stages.assemble import assemble_and_publish
    from training.stages.partition import partition
    from training.stages.schedule import schedule
    from training.stages.train import train_and_offer

    place = Workspace(project)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        partition(place)
        schedule(place)
        train_and_offer(place, shard_id)
        offered = place.manifest_file.read_bytes()
        assemble_and_publish(place)
    return [offered, place.manifest_file.read_bytes()]


def read(place: Workspace, timeline: Timeline) -> Manifest:
    manifest = Manifest.model_validate_json(place.manifest_file.read_bytes())
    timeline.note(manifest)
    return manifest


@contextmanager
def service(place: Workspace, workers: int) -> Iterator[str]:
    """The service on what the workspace publishes, once it is ready; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    own = {
        "BENTOML_DO_NOT_TRACK": "True",
        "SISA_ADMIN_TOKEN": TOKEN,
        "SISA_SERVE_WORKERS": str(workers),
        "SISA_SERVE_STATE": str(place.root / "state"),
    }
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:Sisa", "--port", str(port)]
    with (place.root / "server.log").open("ab") as log:
        server = subprocess.Popen(command, cwd=place.root, env={**os.environ, **own}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_ready(url):
            if server.poll() is not None:
                raise RuntimeError((place.root / "server.log").read_text()[-2000:])
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


class Traffic:
    """Clients that ask for a single image each, and what they were answered."""

    def __init__(self, url: str, manifest: Manifest, timeline: Timeline) -> None:
        self._host, self._timeline = url.removeprefix("http://"), timeline
        body = io.BytesIO()
        np.save(body, np.random.default_rng(0).integers(0, 256, (1, *manifest.image_shape), np.uint8))
        self._body = body.getvalue()
        self.answers: list[Answer] = []
        self.interval = 0.0  # of one client
        self.capacity = 0.0  # answers a second
        self.begin = 0
        self.stop = threading.Event()

    def ask(self, _: int) -> None:
        connection = HTTPConnection(self._host, timeout=60)
        due = time.monotonic()
        while not self.stop.is_set():
            due = max(due + self.interval, time.monotonic())
            self.stop.wait(due - time.monotonic())
            asked = time.monotonic()
            try:
                headers = {"Content-Type": "application/x-npy"}
                connection.request("POST", "/v1/predict/npy", self._body, headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, HTTPException):
                connection.close()
                self.answers.append(Answer(asked, time.monotonic(), 0))
                continue
            received = time.monotonic()
            if reply.status != 200:
                self.answers.append(Answer(asked, received, reply.status))
                continue
            told = json.loads(content)
            pending = tuple(told["turnout"]["pending"])
            self.answers.append(Answer(asked, received, 200, told["generation"], pending))

    def settle(self) -> None:
        """Find out how many answers a second there are at most, and ask for half as many from now on."""
        time.sleep(1)
        first = len(self.answers)
        time.sleep(CAPACITY_SECONDS)
        self.capacity = (len(self.answers) - first) / CAPACITY_SECONDS
        self.interval = CLIENTS / (self.capacity / 2)
        time.sleep(1)
        self.begin = len(self.answers)
        self.began = time.monotonic()

    def wait_until_asked_after(self, moment: float) -> None:
        """Until some answers are there that were asked for after it."""
        while sum(each.asked > moment for each in self.answers[-200:]) < AFTER:
            time.sleep(0.005)

    def wait_for(self, generation: int) -> None:
        """Until it answers."""
        while all(each.generation < generation for each in self.answers[-200:]):
            time.sleep(0.005)

    def since(self, moment: float) -> list[Answer]:
        return [each for each in self.answers[-20_000:] if each.received > moment]

    def result(self, seconds: Sequence[float]) -> dict[str, Any]:
        answers = self.answers[self.begin :]
        return {
            "withdrawals": len(seconds),
            "capacity": round(self.capacity),
            "rate": round(len(answers) / (time.monotonic() - self.began)),
            "answers": len(answers),
            "stale": self._timeline.stale(answers),
            "failed": sum(each.status != 200 for each in answers),
            **spread(seconds),
            "seconds": [round(each, 4) for each in seconds],
        }


@contextmanager
def load(url: str, manifest: Manifest, timeline: Timeline) -> Iterator[Traffic]:
    traffic = Traffic(url, manifest, timeline)
    with ThreadPoolExecutor(CLIENTS) as crowd:
        clients = [crowd.submit(traffic.ask, number) for number in range(CLIENTS)]
        try:
            yield traffic
        finally:
            traffic.stop.set()
            for client in clients:
                client.result()


def spread(seconds: Sequence[float]) -> dict[str, float]:
    median, p99 = np.percentile(seconds, [50, 99])
    return {"median": round(float(median), 4), "p99": round(float(p99), 4), "max": round(max(seconds), 4)}


def environment() -> dict[str, Any]:
    """Where and with what numbers were made."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("bentoml", "onnxruntime", "torch", "numpy")},
    }


if __name__ == "__main__":
    typer.run(main)
