"""Stage evaluate: the release candidate's quality on the test set, for both aggregations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.ensemble.aggregation import AGGREGATIONS, Aggregation, choose, count_votes, mean_probabilities
from serving.ensemble.manifest import ShardEntry
from training.data.store import load_checked
from training.data.summary import read_summary
from training.evaluation.candidate import answers, open_candidate
from training.evaluation.metrics import confidence, judge, reliability, shares
from training.evaluation.reports import Metrics
from training.evaluation.roc import Ints
from training.evaluation.voting import accuracy_by_shard_count, agreement, robust_accuracy
from training.files import csv_bytes, remove, write_atomic, write_if_changed
from training.stages.run import run
from training.workspace import Workspace

Scores = Mapping[Aggregation, NDArray[np.number]]  # (N, C): mean probabilities, votes
Labels = Mapping[Aggregation, Ints]  # (N,)


def evaluate(workspace: Workspace) -> None:
    """Raises DamagedError when the test split or the candidate is missing or damaged."""
    test, ensemble = load_checked(workspace.test_file), open_candidate(workspace)
    by_shard = answers(ensemble, test, range(len(test)), workspace.test_features_file)
    mean, votes = mean_probabilities(by_shard), count_votes(by_shard)
    scores: Scores = {"mean": mean, "vote": votes}
    labels: Labels = {aggregation: choose(mean, votes, aggregation) for aggregation in AGGREGATIONS}
    report = Metrics(
        test_samples=len(test),
        mean=judge(test.labels, labels["mean"], scores["mean"]),
        vote=judge(test.labels, labels["vote"], scores["vote"]),
    )
    write_atomic(workspace.report("metrics.json"), report.to_bytes())

    accuracy = (by_shard.argmax(axis=2) == test.labels).mean(axis=1)
    rows = [
        (shard.shard, shard.retained, f"{value:.4f}")
        for shard, value in zip(ensemble.manifest.voters, accuracy, strict=True)
    ]
    write_atomic(workspace.report("shards.csv"), csv_bytes(("shard", "retained", "accuracy"), rows))
    names = np.array(ensemble.manifest.classes)
    confusion = zip(names[test.labels], names[labels["mean"]], names[labels["vote"]], strict=True)
    write_atomic(workspace.report("confusion.csv"), csv_bytes(("actual", "mean", "vote"), confusion))
    write_classes(workspace, test.labels, labels)
    write_curves(workspace, ensemble.manifest.shards)
    write_reliability(workspace, test.labels, scores, labels)
    write_shard_count(workspace, test.labels, by_shard, workspace.read_params().seed)
    write_vote(workspace, test.labels, labels["vote"], votes)
    for aggregation in AGGREGATIONS:
        print(f"{aggregation}: accuracy {report.of(aggregation).accuracy:.4f}")


def write_classes(workspace: Workspace, actual: Ints, labels: Labels) -> None:
    """By class what is trained on, the test pictures, and the share of these that is right: empty without any."""
    partition = read_summary(workspace.partition_file)
    rows = []
    for label, (name, retained) in enumerate(zip(partition.classes, partition.by_class, strict=True)):
        mine = actual == label
        right = [f"{(labels[each][mine] == label).mean():.6f}" if mine.any() else "" for each in AGGREGATIONS]
        rows.append((name, retained, int(mine.sum()), *right))
    columns = ("class", "retained", "test_samples", *AGGREGATIONS)
    write_atomic(workspace.report("classes.csv"), csv_bytes(columns, rows))


def write_curves(workspace: Workspace, shards: Sequence[ShardEntry]) -> None:
    """Bring the shards' loss curves together in one folder, which holds nothing else."""
    curves = {workspace.training_report(shard.shard): workspace.loss_curve(shard.shard) for shard in shards}
    for path in set(workspace.training_reports.glob("*")) - curves.keys():
        remove(path)
    for path, curve in curves.items():
        if curve.is_file():
            write_if_changed(path, curve.read_bytes())


def write_reliability(workspace: Workspace, actual: Ints, scores: Scores, labels: Labels) -> None:
    rows = [
        (aggregation, *row)
        for aggregation, predicted in labels.items()
        for row in reliability(actual, predicted, confidence(predicted, shares(scores[aggregation])))
    ]
    columns = ("aggregation", "confidence", "accuracy", "samples")
    write_atomic(workspace.report("reliability.csv"), csv_bytes(columns, rows))


def write_shard_count(workspace: Workspace, actual: Ints, by_shard: NDArray[np.float32], seed: int) -> None:
    by_mean, by_vote = (accuracy_by_shard_count(by_shard, actual, each, seed) for each in AGGREGATIONS)
    rows = [(*mean, *vote[1:]) for mean, vote in zip(by_mean, by_vote, strict=True)]
    columns = ("shards", "mean", "mean_lowest", "mean_highest", "vote", "vote_lowest", "vote_highest")
    write_atomic(workspace.report("shard_count.csv"), csv_bytes(columns, rows))


def write_vote(workspace: Workspace, actual: Ints, voted: Ints, votes: Ints) -> None:
    robust = csv_bytes(("poisoned_shards", "accuracy"), robust_accuracy(actual, voted, votes))
    write_atomic(workspace.report("robustness.csv"), robust)
    agreed = csv_bytes(("votes", "samples", "accuracy"), agreement(actual, voted, votes))
    write_atomic(workspace.report("agreement.csv"), agreed)


if __name__ == "__main__":
    run(evaluate)
