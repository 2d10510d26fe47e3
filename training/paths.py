"""Where everything lies, relative to the workspace; the same names as in dvc.yaml."""

from __future__ import annotations

from pathlib import Path

FORGET_FOLDER = Path("forget")

SHARDS_FOLDER = Path("data/shards")
TEST_FILE = Path("data/test.npz")
PARTITION_FILE = Path("data/partition.json")
POISONED_FILE = Path("data/poisoned.txt")

MODELS_FOLDER = Path("models")
INITIAL_WEIGHTS_FOLDER = MODELS_FOLDER / "initial"
PLAN_FOLDER = MODELS_FOLDER / "plan"
CHECKPOINTS_FOLDER = MODELS_FOLDER / "checkpoints"
LOCKS_FOLDER = MODELS_FOLDER / "locks"
EXPORTS_FOLDER = MODELS_FOLDER / "exports"
ONNX_FOLDER = MODELS_FOLDER / "onnx"
MANIFEST_FILE = MODELS_FOLDER / "ensemble.json"

REPORTS_FOLDER = Path("reports")
PLAN_REPORT = REPORTS_FOLDER / "plan.json"
TRAINING_REPORTS = REPORTS_FOLDER / "training"
COST_REPORTS = REPORTS_FOLDER / "cost"
METRICS_REPORT = REPORTS_FOLDER / "metrics.json"
SHARDS_REPORT = REPORTS_FOLDER / "shards.csv"
CONFUSION_REPORT = REPORTS_FOLDER / "confusion.csv"
RELIABILITY_REPORT = REPORTS_FOLDER / "reliability.csv"
SHARD_COUNT_REPORT = REPORTS_FOLDER / "shard_count.csv"
CERTIFIED_REPORT = REPORTS_FOLDER / "certified.csv"
AGREEMENT_REPORT = REPORTS_FOLDER / "agreement.csv"
MEMBERSHIP_REPORT = REPORTS_FOLDER / "membership.json"
ROC_REPORT = REPORTS_FOLDER / "roc.csv"
BACKDOOR_REPORT = REPORTS_FOLDER / "backdoor.json"
HISTORY_REPORT = REPORTS_FOLDER / "history.json"
HTML_REPORT = REPORTS_FOLDER / "report.html"
MARKDOWN_REPORT = REPORTS_FOLDER / "report.md"
DRILL_REPORTS = REPORTS_FOLDER / "drills"

DRILLS_FOLDER = Path(".drills")


def shard_file(shard_id: int) -> Path:
    return SHARDS_FOLDER / f"shard-{shard_id}.npz"


def plan_file(shard_id: int) -> Path:
    return PLAN_FOLDER / f"shard-{shard_id}.json"


def checkpoint_folder(shard_id: int) -> Path:
    return CHECKPOINTS_FOLDER / f"shard-{shard_id}"


def checkpoint_file(shard_id: int, slice_id: int, key: str) -> Path:
    return checkpoint_folder(shard_id) / f"slice-{slice_id:02d}-{key[:16]}.safetensors"


def export_file(shard_id: int) -> Path:
    return EXPORTS_FOLDER / f"shard-{shard_id}.onnx"


def published_file(shard_id: int, sha256: str) -> Path:
    return ONNX_FOLDER / f"shard-{shard_id}-{sha256[:16]}.onnx"
