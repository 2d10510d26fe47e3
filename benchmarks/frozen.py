"""Heads on a frozen backbone by the number of shards: accuracy, calibration, certificates, seconds a head.

    cp profiles/cifar10-frozen.yaml params.yaml && dvc repro evaluate && python -m benchmarks.frozen

Takes the features that the workspace has, places samples for each number of shards as partition does, and fits every
head as training does, one after another. The page docs/results/frozen.md is written anew above its marker. Slices
change no head: the last one is fitted to all of a shard's samples, however many slices there are.
"""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.pages import write_page
from serving.ensemble.aggregation import choose, count_votes, mean_probabilities
from serving.ensemble.heads import Head, Heads
from training.data.features import read_features
from training.data.placement import assign_slots
from training.data.store import load_shard
from training.evaluation.metrics import judge
from training.evaluation.voting import robust_accuracy
from training.learning import Ridge
from training.recipe.head.ridge import fit
from training.workspace import Workspace

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results/frozen.md"
SHARDS = (1, 5, 10, 20, 50, 100, 250)
REPLACED = (1, 2, 3, 9, 20, 40)
# The reference experiment's best accuracy with so many shards; it starts from ImageNet weights as well.
REFERENCE = {5: 0.7973, 10: 0.7730, 20: 0.7343}


def main(
    folder: Annotated[Path, typer.Option(help="a workspace that has features")] = ROOT,
    seed: Annotated[int, typer.Option(help="of the placement")] = 0,
) -> None:
    workspace = Workspace(folder)
    how = workspace.read_params().training
    assert isinstance(how, Ridge)
    ids, labels, features = gather(workspace)
    test = load_shard(workspace.test_file)
    asked = read_features(workspace.test_features_file)
    asked.of(test)
    results = [measure(count, ids, labels, features, test.labels, asked.rows(), how, seed) for count in SHARDS]
    write_page(PAGE, page(results, how, features.shape[1], len(ids)), "benchmarks.frozen")


def gather(workspace: Workspace) -> tuple[list[str], NDArray[np.int64], NDArray[np.float32]]:
    """Ids, labels and features of all that is retained, in order of ids."""
    ids: list[str] = []
    labels, rows = [], []
    for shard_id in workspace.read_params().sisa.shards:
        shard, features = load_shard(workspace.shard_file(shard_id)), read_features(workspace.features_file(shard_id))
        features.of(shard)
        ids += shard.ids
        labels.append(shard.labels)
        rows.append(features.rows())
    order = np.argsort(np.array(ids, dtype=object))
    return [ids[index] for index in order], np.concatenate(labels)[order], np.concatenate(rows)[order]


def measure(  # noqa: PLR0917
    shards: int,
    ids: list[str],
    labels: NDArray[np.int64],
    features: NDArray[np.float32],
    actual: NDArray[np.int64],
    asked: NDArray[np.float32],
    how: Ridge,
    seed: int,
) -> dict[str, Any]:
    """Train and judge ``shards`` heads."""
    places = np.array([shard_id for shard_id, _ in assign_slots(ids, shards, 1, seed)])
    heads, seconds = [], []
    classes = int(labels.max()) + 1
    for shard_id in range(shards):
        members = np.flatnonzero(places == shard_id)
        part = features[members]
        start = time.perf_counter()
        with threadpool_limits(how.threads):
            head = fit(part, labels[members], classes, how.l2)
        seconds.append(time.perf_counter() - start)
        heads.append(Head(head.weight, head.bias))
    by_shard = Heads(heads).probabilities(asked)
    mean, votes = mean_probabilities(by_shard), count_votes(by_shard)
    by_mean, by_vote = choose(mean, votes, "mean"), choose(mean, votes, "vote")
    certified = dict(robust_accuracy(actual, by_vote, votes))
    result: dict[str, Any] = {
        "shards": shards,
        "alone": float((by_shard.argmax(axis=2) == actual).mean()),
        "mean": judge(actual, by_mean, mean).model_dump(),
        "vote": judge(actual, by_vote, votes).model_dump(),
        "certified": {str(count): certified.get(count) for count in REPLACED},
        "seconds": float(np.median(seconds)),
    }
    print(shards, result["mean"]["accuracy"], result["vote"]["accuracy"], result["seconds"], flush=True)
    return result


def page(results: list[dict[str, Any]], how: Ridge, width: int, samples: int) -> str:
    columns = " | ".join(f"{count}" for count in REPLACED)
    lines = [
        "# Heads on a frozen backbone",
        "",
        f"CIFAR-10, {samples:,} training samples, all 10,000 test pictures; EfficientNet-Lite0 with ImageNet weights at 160 "
        f"pixels, {width} features, ridge heads with l2 = {how.l2}. F1, precision and recall are weighted by the classes' "
        "frequencies. The reference is the best of its three numbers of slices; it starts from ImageNet weights as well.",
        "",
        "| S | aggregation | accuracy | reference | F1 | precision | recall | AUROC | log loss | calibration error |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(row(result, aggregation) for result in results for aggregation in ("mean", "vote")),
        "",
        "Beside them: what one shard reaches alone, the share of the test set on which the vote is right and stays so whatever "
        "becomes of so many shards, and the median time of fitting a head.",
        "",
        f"| S | one shard alone | against {columns} replaced shards | seconds a head |",
        f"|---|---|{'---|' * len(REPLACED)}---|",
        *(certified_row(result) for result in results),
        "",
        f"{machine()}, {how.threads} threads.",
        "",
        "```sh",
        "cp profiles/cifar10-frozen.yaml params.yaml && sisa backbone make efficientnet-lite0",
        "dvc repro evaluate && python -m benchmarks.frozen",
        "```",
    ]
    return "\n".join(lines) + "\n"


def row(result: dict[str, Any], aggregation: str) -> str:
    quality = result[aggregation]
    names = ("weighted_f1", "weighted_precision", "weighted_recall", "auroc", "log_loss", "expected_calibration_error")
    values = [f"{quality[name]:.4f}" if isinstance(quality[name], float) else "–" for name in names]
    reference = REFERENCE.get(result["shards"])
    beside = "–" if reference is None else f"{reference:.4f}"
    return f"| {result['shards']} | {aggregation} | {quality['accuracy']:.4f} | {beside} | {' | '.join(values)} |"


def certified_row(result: dict[str, Any]) -> str:
    values = [result["certified"][str(count)] for count in REPLACED]
    shares = " | ".join("–" if value is None else f"{value:.4f}" for value in values)
    return f"| {result['shards']} | {result['alone']:.4f} | {shares} | {result['seconds']:.3f} |"


def machine() -> str:
    blas = sorted({str(info.get("architecture")) for info in threadpool_info() if info["user_api"] == "blas"})
    return f"{platform.machine()} {', '.join(blas)}, {os.cpu_count()} cores, numpy {version('numpy')}"


if __name__ == "__main__":
    typer.run(main)
