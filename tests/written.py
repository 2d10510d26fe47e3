"""A workspace's reports and ledger written down by hand: what the report stage reads, without any training."""

from __future__ import annotations

from typing import Any

from serving.ensemble.manifest import Forgotten, Release, ShardEntry
from training.evaluation.reports import (
    Absent,
    Accuracies,
    Attack,
    AttackedSet,
    Backdoor,
    ForgetLists,
    Membership,
    Metrics,
    Quality,
    Reference,
    Share,
)
from training.files import json_bytes, sha256_file, write_atomic
from training.publish.events import Published
from training.publish.ledger import Ledger
from training.publish.record import ShardRecord, SliceCost
from training.workspace import Workspace

TABLES = {
    "training/shard-0.csv": "epoch,slice,loss\n1,0,2.0\n2,0,1.0\n",
    "training/shard-1.csv": "epoch,slice,loss\n1,0,2.5\n2,0,1.5\n",
    "shards.csv": "shard,retained,accuracy\n0,50,0.9\n1,40,0.8\n",
    "classes.csv": "class,retained,test_samples,mean,vote\na,60,60,0.950000,0.950000\nb,30,40,0.825000,0.825000\n",
    "confusion.csv": "actual,mean,vote\na,a,a\nb,a,b\nb,b,b\n",
    "reliability.csv": "aggregation,confidence,accuracy,samples\nmean,0.5,0.4,2\nvote,0.75,1.0,1\n",
    "shard_count.csv": (
        "shards,mean,mean_lowest,mean_highest,vote,vote_lowest,vote_highest\n"
        "1,0.8,0.7,0.9,0.8,0.7,0.9\n2,0.9,0.9,0.9,0.9,0.9,0.9\n"
    ),
    "robustness.csv": "poisoned_shards,accuracy\n0,0.9\n1,0.5\n",
    "agreement.csv": "votes,samples,accuracy\n1,1,0.0\n2,2,1.0\n",
    "roc.csv": "attack,fpr,tpr\nforget: ensemble loss,0.01,0.1\nforget: ensemble loss,1.0,1.0\n",
}
NOBODY = Absent(absent="nobody is listed")
NO_TRIGGER = Absent(absent="no trigger was planted")
TOO_FEW = Absent(absent="too few")


def quality(accuracy: float) -> Quality:
    return Quality(
        accuracy=accuracy,
        weighted_f1=accuracy,
        weighted_precision=accuracy,
        weighted_recall=accuracy,
        auroc=0.5,
        log_loss=TOO_FEW,
        expected_calibration_error=0.1,
    )


def attack(auc: float, interval: tuple[float, float] | Absent = TOO_FEW) -> Attack:
    return Attack(auc=auc, interval=interval, tpr_at_fpr_1_percent=TOO_FEW, tpr_at_fpr_1_permille=TOO_FEW)


def attacked(samples: int = 10) -> AttackedSet:
    """Ten samples, nine of them right."""
    share = Share(share=0.9, interval=(0.6, 0.98), samples=samples)
    return AttackedSet(
        samples=samples,
        accuracy=Accuracies(mean=share, vote=share),
        reference=Reference(accuracy=0.5, spread=0.02, draws=10, samples_a_side=samples),
        ensemble_loss=attack(0.5, (0.4, 0.6)),
        ensemble_confidence=attack(0.5),
        own_shard_confidence=attack(0.5),
        likelihood_ratio=NOBODY,
        shards=(),
    )


def lists(name: str = "list", listed: int = 10, applied: bool = True, already_gone: int = 0) -> ForgetLists:
    return ForgetLists(applied=applied, listed=listed, already_gone=already_gone, sha256=name, pictures=listed)


def record(shard: int, *costs: tuple[str, int, float]) -> ShardRecord:
    """A shard by its slices' keys, sample-epochs and seconds."""
    return ShardRecord(
        shard=shard,
        retained=45,
        keys=tuple(key for key, _, _ in costs),
        merkle_root="root",
        sha256="sha256",
        graph="graph",
        slices=tuple(
            SliceCost(key=key, samples=1, sample_epochs=epochs, seconds=seconds, device="cpu")
            for key, epochs, seconds in costs
        ),
    )


def published(workspace: Workspace, generation: int, *shards: ShardRecord) -> Published:
    """Enter the release candidate that is there into the ledger."""
    ledger = Ledger(workspace.ledger_file, workspace.ledger_export)
    entry = Published.model_validate(
        {
            **ledger.stamp(),
            "generation": generation,
            "manifest_sha256": "manifest",
            "release_sha256": sha256_file(workspace.release_file),
            "shards": shards,
        }
    )
    ledger.append(entry)
    return entry


def write_reports(
    workspace: Workspace,
    release: str,
    *,
    accuracy: float = 0.9,
    forget: AttackedSet | None = None,
    listed: ForgetLists | None = None,
    backdoor: Backdoor | None = None,
) -> None:
    """Everything that the report stage reads but the ledger, of a candidate whose one model is ``release``."""
    reports: dict[str, Any] = {
        "metrics.json": Metrics(test_samples=100, mean=quality(accuracy), vote=quality(accuracy)).to_bytes(),
        "membership.json": Membership(
            list=listed or lists(), non_members=100, forget=forget or NOBODY, training=attacked()
        ).to_bytes(),
        "backdoor.json": (backdoor or NO_TRIGGER).to_bytes(),
        **{name: table.encode() for name, table in TABLES.items()},
    }
    for name, content in reports.items():
        write_atomic(workspace.report(name), content)
    model = ShardEntry(shard=0, retained=90, key="key", abstains=False, file="onnx/0.onnx", sha256=release)
    forgotten = Forgotten(listed=10, already_gone=0, sha256="none")
    candidate = Release(
        aggregation="mean", classes=("a", "b"), image_shape=(8, 8, 3), forgotten=forgotten, shards=(model,)
    )
    write_atomic(workspace.release_file, candidate.to_bytes())
    none = {"listed": 0, "already_gone": 0, "sha256": "none"}
    partition = {
        "source": "digits",
        "classes": ["a", "b"],
        "image_shape": [8, 8, 3],
        "retained": [50, 40],
        "forgotten": {**none, "listed": 10},
        "monitored": none,
        "poisoned": {"planted": 0, "retained": [0, 0]},
    }
    write_atomic(workspace.partition_file, json_bytes(partition))
