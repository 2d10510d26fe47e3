"""Prints what the last run reached: the closing table of ``make repro``."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training import stage
from training.files import read_json
from training.paths import HTML_REPORT, MANIFEST_FILE, METRICS_REPORT, PLAN_REPORT


def main() -> None:
    manifest, metrics, plan = (read_json(path) for path in (MANIFEST_FILE, METRICS_REPORT, PLAN_REPORT))
    retained = sum(shard["retained"] for shard in manifest["shards"])
    table = Table("on the test set", "mean", "vote", title=f"Generation {manifest['generation']}")
    for name, value in metrics["mean"].items():
        if name != "absent":
            table.add_row(name.replace("_", " "), f"{value:.4f}", _or_dash(metrics["vote"].get(name)))
    console = Console()
    console.print(table)
    console.print(
        f"{len(manifest['shards'])} shards, {retained:,} samples retained, "
        f"{manifest['forgotten']['listed']:,} ids on the forget lists; the last training cost "
        f"{plan['sample_epochs']:,} sample-epochs, {plan['ratio']:.1%} of a full one."
    )
    # Not by the console: a path that it wraps cannot be copied.
    print(f"Report: {HTML_REPORT.resolve()}")


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    stage.run(main)
