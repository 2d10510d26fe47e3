"""Requests while generations are published: how many fail, and how many are answered by a generation that was gone.

    python -m benchmarks.publications [--publications 10] [--requests 100000]

A clone of this repository with the digits, a real service on its models/, eight clients that never pause, and real
`dvc repro` for one forgotten sample after another. Each client reads the number of the published generation before
it asks: an answer of a lower one is stale. Writes docs/results/publications.md.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from tqdm import tqdm

from benchmarks.pages import write_page
from benchmarks.serving import service

ROOT = Path(__file__).parents[1]
CLIENTS = 8
SIDE = 16  # of the digits' images


class Clients:
    """What they were answered: statuses, and answers of a generation below the one that was published before."""

    def __init__(self, port: int, manifest: Path, requests: int) -> None:
        self.statuses, self.stale, self.generations = Counter[str](), 0, set[int]()
        self.publishing = True
        self._url, self._manifest, self._left = f"http://127.0.0.1:{port}/v1/predict/npy", manifest, requests
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _ask_on(self) -> None:
        file = io.BytesIO()
        np.save(file, np.zeros((1, SIDE, SIDE, 3), np.uint8))
        headers = {"content-type": "application/x-npy"}
        with httpx.Client(timeout=60) as client:
            while self.publishing or self._left > 0:
                published = json.loads(self._manifest.read_text())["generation"]
                try:
                    answer = client.post(self._url, content=file.getvalue(), headers=headers)
                except httpx.TransportError as error:
                    status, generation = type(error).__name__, published
                else:
                    status = str(answer.status_code)
                    generation = answer.json()["generation"] if answer.status_code == 200 else published
                with self._lock:
                    self._left -= 1
                    self.statuses[status] += 1
                    self.stale += generation < published
                    self.generations.add(generation)


def main(
    publications: Annotated[int, typer.Option(help="times that `dvc repro` publishes")] = 10,
    requests: Annotated[int, typer.Option(help="at least")] = 100_000,
    out: Annotated[Path, typer.Option(help="where the numbers go")] = ROOT / "docs/results/publications.md",
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        repro(folder)
        with service(folder / "models", SIDE) as running:
            clients = Clients(running.port, folder / "models/ensemble.json", requests)
            start = time.monotonic()
            try:
                for number in tqdm(range(publications), desc="publications"):
                    with (folder / "forget/requests.txt").open("a") as file:
                        file.write(f"{10 * number + 3}\n")
                    repro(folder)
            finally:
                clients.publishing = False
                clients.join()
            seconds = time.monotonic() - start
    total, failed = clients.statuses.total(), clients.statuses.total() - clients.statuses["200"]
    print(clients.statuses, clients.stale, sorted(clients.generations))
    write_page(out, page(publications, total, failed, clients, seconds), "benchmarks.publications")


def repro(folder: Path) -> None:
    done = subprocess.run(
        ["dvc", "repro", "--quiet", "assemble"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"dvc repro failed:\n{done.stdout}\n{done.stderr}")


def page(publications: int, total: int, failed: int, clients: Clients, seconds: float) -> str:
    return "\n".join(
        [
            "# Requests while generations are published\n",
            f"{CLIENTS} clients that never pause, and `dvc repro` for one forgotten sample {publications} times: each withdraws "
            "and then publishes, so there are about two generations a time.\n",
            "| `dvc repro` | requests | failed | stale | generations that answered | seconds |",
            "|---|---|---|---|---|---|",
            f"| {publications} | {total:,} | **{failed}** | **{clients.stale}** | {len(clients.generations)} | {seconds:.0f} |",
            "",
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
            "",
            "```sh\npython -m benchmarks.publications\n```",
        ]
    )


if __name__ == "__main__":
    typer.run(main)
