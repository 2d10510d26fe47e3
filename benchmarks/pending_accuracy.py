"""What an ensemble is worth while shards are pending, and whether earlier slices in their place are worth more.

    python -m benchmarks.pending_accuracy --workspace . --out docs/results/withdrawal/digits.json

The workspace is one after `dvc repro`; nothing of it is changed. Every slice's checkpoint is exported and judged on the
whole test split, so that whatever requests may hit, what would answer then is known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.withdrawal import environment
from serving.ensemble.aggregation import AGGREGATIONS, choose, count_votes, mean_probabilities
from serving.ensemble.turnout import shards_needed
from training.chain.checkpoints import load_checkpoint
from training.chain.plan import load_plan
from training.data.store import load_shard
from training.evaluation.voting import accuracy_by_shard_count
from training.publish.export import export
from training.publish.provenance import graph_digest
from training.workspace import Workspace

WINDOWS = (1, 3, 10, 30)
BATCH = 500

Answers = NDArray[np.float32]  # (S, R, N, C): of every shard after every slice
Slices = tuple[int, ...]  # by shard, the slice after which its model was taken; -1: it abstains


def main(
    workspace: Annotated[Path, typer.Option(help="the workspace, after `dvc repro`")] = Path(),
    out: Annotated[Path, typer.Option(help="where the numbers go")] = Path("docs/results/withdrawal/accuracy.json"),
    draws: Annotated[int, typer.Option(help="random windows of each size")] = 200,
    seed: int = 0,
) -> None:
    place = Workspace(workspace)
    params = place.read_params()
    test = load_shard(place.test_file)
    answers, actual = answers_of_every_slice(place, test.images), test.labels
    judged = Judged(answers, actual)
    slices = [load_shard(place.shard_file(shard_id)).slices for shard_id in params.sisa.shards]
    document: dict[str, Any] = {
        "recipe": params.model_dump(mode="json", include={"seed", "data", "sisa", "network", "training"}),
        "test_samples": len(actual),
        "alone": [[round(float(accuracy), 4) for accuracy in row] for row in alone(answers, actual)],
        "pending": pending(answers, actual, judged, draws, seed),
        "windows": [
            window(judged, slices, requests, draws, seed=seed, quorum=params.serve.quorum) for requests in WINDOWS
        ],
        "draws": draws,
        "quorum": params.serve.quorum,
        "environment": environment(),
    }
    document["recipe"]["data"]["root"] = "data/raw"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print("\n\n".join([pending_table(document), window_table(document)]))


def answers_of_every_slice(workspace: Workspace, images: NDArray[np.uint8]) -> Answers:
    shards, options = [], onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the service has one a shard, too
    for shard_id in workspace.read_params().sisa.shards:
        plan = load_plan(workspace.plan_file(shard_id))
        graph_file = workspace.graphs_folder / graph_digest(plan.recipe)[:16]
        slices = []
        for slice_id, key in enumerate(tqdm(plan.keys, desc=f"shard {shard_id}")):
            checkpoint = load_checkpoint(workspace.checkpoint_file(shard_id, slice_id, key), key)
            content, _ = export(plan.recipe, checkpoint.weights, graph_file, {})
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
            slices.append(np.concatenate([session.run(None, {"images": np.array(batch)})[0] for batch in batches]))
        shards.append(np.stack(slices))
    return np.stack(shards)


def alone(answers: Answers, actual: NDArray[np.int64]) -> NDArray[np.float64]:
    """(S, R): accuracy of each model alone."""
    right: NDArray[np.float64] = (answers.argmax(axis=3) == actual).mean(axis=2)
    return right


class Judged:
    """Accuracy of the mean, each combination of slices judged once."""

    def __init__(self, answers: Answers, actual: NDArray[np.int64]) -> None:
        self.shards, self.slices = answers.shape[:2]

        @cache
        def accuracy(taken: Slices) -> float | None:
            """None where every shard abstains."""
            part = np.array([answers[shard, at] for shard, at in enumerate(taken) if at >= 0])
            if not len(part):
                return None
            predicted = choose(mean_probabilities(part), count_votes(part), "mean")
            return float((predicted == actual).mean())

        self.accuracy = accuracy

    @property
    def last(self) -> int:
        return int(self.slices) - 1


def pending(
    answers: Answers, actual: NDArray[np.int64], judged: Judged, draws: int, seed: int
) -> list[dict[str, float | None]]:
    """By number of pending shards, over all choices of them; ``earlier``: a random slice of each was hit."""
    random = np.random.default_rng(seed)
    whole = answers[:, -1]
    counts = {each: accuracy_by_shard_count(whole, actual, each, seed) for each in AGGREGATIONS}
    rows: list[dict[str, float | None]] = []
    for absent in range(judged.shards + 1):
        row: dict[str, float | None] = {"pending": absent}
        for aggregation in AGGREGATIONS:
            found = counts[aggregation][judged.shards - absent - 1][1:] if absent < judged.shards else (None,) * 3
            row |= dict(zip((aggregation, f"{aggregation}_lowest", f"{aggregation}_highest"), found, strict=True))
        earlier = []
        choices = list(combinations(range(judged.shards), absent))
        for number in range(draws if absent else 1):
            taken = [judged.last] * judged.shards
            for shard in choices[number % len(choices)]:
                taken[shard] = int(random.integers(judged.slices)) - 1
            earlier.append(judged.accuracy(tuple(taken)))
        row["earlier"] = average(earlier)
        rows.append(row)
    return rows


def window(
    judged: Judged, slices: Sequence[NDArray[np.int64]], requests: int, draws: int, *, seed: int, quorum: float
) -> dict[str, Any]:
    """What answers after so many random requests, before anything is trained.

    ``abstaining``: over the draws in which a shard is left. ``earlier``: every hit shard answers from the deepest
    slice that never saw a sample. ``service``: only where fewer than the quorum would answer otherwise.
    """
    random = np.random.default_rng((seed, requests))
    sizes = np.array([len(each) for each in slices])
    shard_of = np.repeat(np.arange(len(slices)), sizes)
    slice_of = np.concatenate(slices)
    needed = shards_needed(len(slices), quorum)
    absent, left, abstaining, earlier, service, refused = [], [], [], [], [], 0
    for _ in range(draws):
        chosen = random.choice(len(slice_of), requests, replace=False)
        first = [min(slice_of[chosen][shard_of[chosen] == shard], default=-1) for shard in range(len(slices))]
        hit = [shard for shard, at in enumerate(first) if at >= 0]
        without = tuple(-1 if shard in hit else judged.last for shard in range(len(slices)))
        before = tuple(int(first[shard]) - 1 if shard in hit else judged.last for shard in range(len(slices)))
        fallen = before if len(slices) - len(hit) < needed else without
        absent.append(len(hit))
        left.append(sum(at >= 0 for at in fallen))
        abstaining.append(judged.accuracy(without))
        earlier.append(judged.accuracy(before))
        if left[-1] < needed:
            refused += 1
        else:
            service.append(judged.accuracy(fallen))
    return {
        "requests": requests,
        "pending": float(np.mean(absent)),
        "below_quorum": float(np.mean(len(slices) - np.array(absent) < needed)),
        "none_left": sum(each is None for each in abstaining) / draws,
        "abstaining": average(abstaining),
        "earlier": average(earlier),
        "service": average(service),
        "service_refuses": refused / draws,
    }


def average(values: Sequence[float | None]) -> float | None:
    """Of those that are there."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"[1:] if value < 1 else "1"


def pending_table(document: dict[str, Any]) -> str:
    lines = [
        "| pending | mean (lowest to highest) | vote (lowest to highest) | mean, pending shards on an earlier slice |",
        "|---|---|---|---|",
    ]
    for row in document["pending"]:
        spans = [
            f"{cell(row[each])} ({cell(row[f'{each}_lowest'])} to {cell(row[f'{each}_highest'])})"
            if row[each] is not None
            else "no answer"
            for each in AGGREGATIONS
        ]
        lines.append(f"| {row['pending']} | {spans[0]} | {spans[1]} | {cell(row['earlier'])} |")
    return "\n".join(lines)


def window_table(document: dict[str, Any]) -> str:
    lines = [
        "| requests | pending shards | below the quorum | abstaining | no shard left | earlier slices | as the service does "
        "| it refuses |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['requests']} | {row['pending']:.2f} | {row['below_quorum']:.0%} | {cell(row['abstaining'])} | "
        f"{row['none_left']:.0%} | {cell(row['earlier'])} | {cell(row['service'])} | {row['service_refuses']:.0%} |"
        for row in document["windows"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
