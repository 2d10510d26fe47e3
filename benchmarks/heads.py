"""What an answer costs with a frozen backbone: the backbone, and S heads as one matrix or as S sessions.

    python -m benchmarks.heads --backbone models/initial/efficientnet-lite0.onnx

Prints a Markdown table of milliseconds a batch, in the process, without HTTP: medians.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray

from serving.ensemble.backbone import Backbone
from serving.ensemble.heads import Heads, read_head
from training.publish.head import head_graph

SHARDS = (5, 20, 100)
BATCHES = (1, 8, 64)
CLASSES = 10


def main(
    backbone: Annotated[Path, typer.Option(help="an ONNX file")],
    size: Annotated[int, typer.Option(help="side of the images")] = 32,
    rounds: Annotated[int, typer.Option(help="how often each is timed")] = 30,
) -> None:
    threads = os.cpu_count() or 1
    pool, random = ThreadPoolExecutor(threads), np.random.default_rng(0)
    network = Backbone(open_session(backbone), pool, threads)
    print(
        f"{threads} cores, onnxruntime {onnxruntime.__version__}, {network.width} features, images of {size} × {size}\n"
    )
    print("| S | batch | backbone, ms | heads as one matrix, ms | as S sessions, ms |\n|---|---|---|---|---|")
    for shards in SHARDS:
        sessions = [
            open_session(
                head_graph(
                    random.standard_normal((network.width, CLASSES), np.float32) / 30, np.zeros(CLASSES, np.float32)
                ).SerializeToString()
            )
            for _ in range(shards)
        ]
        heads = Heads([read_head(session) for session in sessions])
        for batch in BATCHES:
            images = random.integers(0, 256, (batch, size, size, 3), np.uint8)
            features = network.features(images)
            ways = (
                partial(network.features, images),
                partial(heads.probabilities, features),
                partial(side_by_side, pool, sessions, features),
            )
            times = [timed(way, rounds) for way in ways]
            print(f"| {shards} | {batch} | {' | '.join(f'{value:.2f}' for value in times)} |", flush=True)


def side_by_side(
    pool: Executor, sessions: Sequence[onnxruntime.InferenceSession], features: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    return list(pool.map(lambda session: session.run(["probabilities"], {"features": features})[0], sessions))


def open_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def timed(run: Callable[[], object], rounds: int) -> float:
    """Median milliseconds."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    typer.run(main)
