"""How much memory and time partition takes, by the number of pictures: it must not grow with a shard.

    python -m benchmarks.partition [--pictures 5000 --pictures 50000] [--side 224] [--folder /tmp/pictures]

Makes folders of JPEG pictures of two classes, runs the stage `partition` on five shards in a process of
its own, once from nothing and once after one picture was forgotten, and prints a Markdown table: seconds,
and the largest memory of the process. Beside them what one shard's images take, which is what holding a
shard in memory would cost at least.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
SHARDS = 5
STAGE = """
import resource, sys
from pathlib import Path
from training.stages.partition import partition
from training.workspace import Workspace
partition(Workspace(Path(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def main(
    pictures: Annotated[list[int] | None, typer.Option(help="pictures to train on; may be given several times")] = None,
    side: Annotated[int, typer.Option(help="pixels a side, of the pictures and of the images made of them")] = 224,
    folder: Annotated[Path | None, typer.Option(help="where to work; it needs some 10 GB for 50,000 pictures")] = None,
) -> None:
    print(
        f"Partition, {SHARDS} shards, pictures of {side} × {side}; {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, numpy {np.__version__}\n\n"
        "| pictures | images of one shard, MB | peak memory, MB | seconds | after forgetting one: peak memory, MB | "
        "seconds |\n|---|---|---|---|---|---|"
    )
    for count in pictures or [500, 5000]:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            workspace = Path(name)
            make(workspace, count, side)
            first = measure(workspace)
            (workspace / "forget/requests.txt").write_text("a/00000.jpg\n")
            again = measure(workspace)
            shard = count / SHARDS * side * side * 3 / 1e6
            print(f"| {count:,} | {shard:,.0f} | {first[0]:,.0f} | {first[1]:.1f} | {again[0]:,.0f} | {again[1]:.1f} |")


def make(workspace: Path, count: int, side: int) -> None:
    """An image folder and everything that the stage needs beside it."""
    random = np.random.default_rng(0)
    for split, number in (("train", count), ("test", 20)):
        for label in "ab":
            (workspace / "pictures" / split / label).mkdir(parents=True)
        for index in tqdm(range(number), desc=f"pictures to {split} on", leave=False, disable=None):
            coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
            path = workspace / f"pictures/{split}/{'ab'[index % 2]}/{index:05d}.jpg"
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=85)
    params = yaml.safe_load((ROOT / "profiles/digits.yaml").read_text())
    params["data"] = {"source": "imagefolder", "root": "pictures", "image_size": side}
    params["sisa"]["shards"] = SHARDS
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    (workspace / "forget").mkdir()


def measure(workspace: Path) -> tuple[float, float]:
    """Peak memory in MB and seconds of the stage."""
    start = time.perf_counter()
    command = [sys.executable, "-c", STAGE, str(workspace)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) / 1e6, time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)
