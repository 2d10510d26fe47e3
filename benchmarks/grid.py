"""CIFAR-10 in S shards and R slices, S and R each one of 5, 10 and 20: a cell of the reference experiment's table each.

    python -m benchmarks.grid [--folder .grid] [--device auto] [--data docs/results/grid.json]

One cell after another in one workspace, the pipeline's own stages in this process, without DVC. Stopped at any point, the
same command completes: cells that are in the data are skipped, and the one that was stopped resumes from its checkpoints.
Writes `docs/results/grid.md` after each cell.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.pages import write_page
from training.engine.serial import train_shard
from training.files import write_atomic
from training.publish.record import load_record
from training.stages.assemble import assemble_and_publish
from training.stages.evaluate import evaluate
from training.stages.partition import partition
from training.stages.schedule import schedule
from training.workspace import Workspace

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs/results/grid.json"

# The reference experiment's accuracy, which starts from ImageNet weights, by (S, R).
REFERENCE = {
    (5, 5): 0.7743,
    (5, 10): 0.7884,
    (5, 20): 0.7973,
    (10, 5): 0.7388,
    (10, 10): 0.7667,
    (10, 20): 0.7730,
    (20, 5): 0.7109,
    (20, 10): 0.7260,
    (20, 20): 0.7343,
}
EPOCHS = {5: 5, 10: 3, 20: 1}  # a slice, by R: some .53 to .82 million sample-epochs a cell, the reference's at most
BATCH_SIZE = {5: 32, 10: 32, 20: 16}  # by S: small shards take too few steps otherwise
METRICS = ("accuracy", "weighted_f1", "weighted_precision", "weighted_recall", "auroc")


@dataclass(frozen=True)
class Cell:
    shards: int
    slices: int
    network: str = "resnet9"
    epochs_per_slice: int = 3
    batch_size: int = 32
    learning_rate: float = 0.05
    precision: str = "bf16"


CELLS = [
    *(
        Cell(shards, slices, epochs_per_slice=EPOCHS[slices], batch_size=BATCH_SIZE[shards])
        for shards, slices in REFERENCE
    ),
    Cell(20, 20, epochs_per_slice=3, batch_size=16),  # one epoch is too little there
]


def main(
    folder: Annotated[Path, typer.Option(help="the workspace; models and shards are replaced by each cell")] = ROOT
    / ".grid",
    source: Annotated[Path, typer.Option(help="folder of cifar-10-batches-py")] = ROOT / "data/raw",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    data: Annotated[Path, typer.Option(help="where results are kept")] = DATA,
    only: Annotated[list[str] | None, typer.Option(help="a cell, as 5,10; may be given several times")] = None,
) -> None:
    for cell in CELLS:
        if only is not None and f"{cell.shards},{cell.slices}" not in only:
            continue
        result = run_once(cell, folder, source, device, data)
        print(json.dumps(result), flush=True)
        write_page(data.with_suffix(".md"), page(read(data)), "benchmarks.grid")


def run_once(cell: Cell, folder: Path, source: Path, device: str, data: Path) -> dict[str, Any]:
    """A cell's result: that of ``data``, or a new one, which is written there."""
    results = read(data)
    for result in results:
        if result["cell"] == asdict(cell):
            return result
    result = run(cell, folder, source, device)
    write_atomic(data, json.dumps([*results, result], indent=2).encode() + b"\n")
    return result


def read(data: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(data.read_text()) if data.is_file() else []
    return results


def run(cell: Cell, folder: Path, source: Path, device: str) -> dict[str, Any]:
    """Train and judge a cell; the stages' own seconds beside the training's."""
    workspace = prepare(cell, folder, source, device)
    seconds: dict[str, float] = {}

    def stage(name: str, *arguments: Any) -> None:
        start = time.perf_counter()
        STAGES[name](workspace, *arguments)
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - start, 1)

    stage("partition")
    stage("schedule")
    for shard_id in range(cell.shards):
        stage("train", shard_id)
    stage("assemble")
    stage("evaluate")
    costs = [cost for shard_id in range(cell.shards) for cost in load_record(workspace.export_record(shard_id)).slices]
    metrics = json.loads(workspace.report("metrics.json").read_text())
    return {
        "cell": asdict(cell),
        "mean": {name: metrics["mean"][name] for name in METRICS},
        "vote": {name: metrics["vote"][name] for name in METRICS},
        "sample_epochs": sum(cost.sample_epochs for cost in costs),
        "training_seconds": round(sum(cost.seconds for cost in costs), 1),
        "stage_seconds": seconds,
        "machine": {
            "device": costs[0].device,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": version("torch"),
        },
    }


STAGES: dict[str, Any] = {
    "partition": partition,
    "schedule": schedule,
    "train": train_shard,
    "assemble": assemble_and_publish,
    "evaluate": evaluate,
}


def prepare(cell: Cell, folder: Path, source: Path, device: str) -> Workspace:
    """The workspace with the cell's parameters."""
    params = yaml.safe_load((ROOT / "profiles/cifar10.yaml").read_text())
    params["device"] = device
    params["data"]["root"] = str(source.resolve())
    params["sisa"] |= {"shards": cell.shards, "slices": cell.slices}
    params["network"]["name"] = cell.network
    params["training"] |= {
        "epochs_per_slice": cell.epochs_per_slice,
        "batch_size": cell.batch_size,
        "learning_rate": cell.learning_rate,
        "precision": cell.precision,
    }
    for name in ("forget", "models/initial", "reports/drills"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False).encode())
    return Workspace(folder)


def page(results: list[dict[str, Any]]) -> str:
    """A table of the cells there are, beside the reference's accuracy."""
    return "\n".join(
        [
            "# CIFAR-10 by shards and slices\n",
            "From scratch, all 10,000 test pictures; `profiles/cifar10.yaml` but for what the table says. F1, precision and recall "
            "are weighted by the classes' frequencies, AUROC is one class against the rest. The reference's accuracy is that of a "
            "ResNet-18 that starts from ImageNet weights.\n",
            "| S | R | sample-epochs | aggregation | accuracy | reference | F1 | precision | recall | AUROC |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(row(result, aggregation) for result in results for aggregation in ("mean", "vote")),
            "",
            "| S | R | network | epochs a slice | batch | learning rate | precision | sample-epochs | training | all stages |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(cost_row(result) for result in results),
            "",
            *sorted({machine(result["machine"]) for result in results}),
            "",
            "```sh\npython -m benchmarks.grid\n```",
        ]
    )


def row(result: dict[str, Any], aggregation: str) -> str:
    cell = result["cell"]
    reference = REFERENCE.get((cell["shards"], cell["slices"]))
    accuracy, *others = (f"{result[aggregation][name]:.4f}" for name in METRICS)
    beside = f"{reference:.4f}" if reference is not None else "–"
    where = f"{cell['shards']} | {cell['slices']} | {result['sample_epochs']:,} | {aggregation}"
    return f"| {where} | {' | '.join([accuracy, beside, *others])} |"


def cost_row(result: dict[str, Any]) -> str:
    cell = result["cell"]
    columns = ("shards", "slices", "network", "epochs_per_slice", "batch_size", "learning_rate", "precision")
    times = f"{result['sample_epochs']:,} | {result['training_seconds']:.0f} s | {sum(result['stage_seconds'].values()):.0f} s"
    return f"| {' | '.join(str(cell[name]) for name in columns)} | {times} |"


def machine(where: dict[str, Any]) -> str:
    return f"{where['device']}, {where['cores']} cores, Python {where['python']}, torch {where['torch']}."


if __name__ == "__main__":
    typer.run(main)
