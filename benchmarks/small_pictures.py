"""What the bounds on decoding cost small and honest pictures: the service before them, and now.

    python -m benchmarks.small_pictures [--before COMMIT] [--seconds 1.5]

Both run at once and are asked in turns; the ratio is taken turn by turn. Writes docs/results/small_pictures.md.
"""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.pages import write_page
from benchmarks.serving import compare, http_request, load, make_ensemble, noise, ratio, service, started

ROOT = Path(__file__).parents[1]
BEFORE = "d7e4607"  # the last commit that decoded all pictures in threads, whatever they cost
ROUNDS = 3  # each of five turns
CASES = ((1, 1), (1, 4), (16, 1))  # images a request, clients


def main(
    before: Annotated[str, typer.Option(help="commit of the other service")] = BEFORE,
    seconds: Annotated[float, typer.Option(help="of every measurement")] = 1.5,
    out: Annotated[Path, typer.Option(help="where the table goes")] = ROOT / "docs/results/small_pictures.md",
) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        other, models = Path(folder) / "before", Path(folder) / "models"
        archive = subprocess.run(["git", "archive", before], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(other, filter="data")
        models.mkdir()
        make_ensemble(models, "resnet9", 1)
        command = ["env", "-C", str(other), sys.executable, "-m", "bentoml", "serve", "serving.service:Sisa"]
        with started(command, models) as then, service(models) as now:
            for images, clients in CASES:
                request = http_request("PNG", noise(images))
                rates: dict[str, list[float]] = {"before": [], "now": []}
                for _ in range(ROUNDS):
                    contenders: dict[str, Callable[[], float]] = {
                        name: partial(load, server.port, request, images, clients, seconds)
                        for name, server in (("before", then), ("now", now))
                    }
                    for name, found in compare(contenders).items():
                        rates[name] += found
                row = f"| {images} | {clients} | {np.median(rates['before']):,.0f} | {np.median(rates['now']):,.0f} "
                rows.append(f"{row}| {ratio(rates, 'now', 'before'):.2f} |")
                print(rows[-1], flush=True)
    write_page(out, page(rows, before), "benchmarks.small_pictures")


def page(rows: list[str], before: str) -> str:
    return "\n".join(
        [
            "# Small pictures, and what bounds on decoding cost them\n",
            f"PNG, 32 × 32, as forms; one ResNet-9; the service of commit {before} beside today's, asked in turns. Images per "
            "second, medians; the ratio is the median over the turns.\n",
            "| images a request | clients | before | now | now / before |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
            "",
            "```sh\npython -m benchmarks.small_pictures\n```",
        ]
    )


if __name__ == "__main__":
    typer.run(main)
