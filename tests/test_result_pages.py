"""The pages of the GPU and of the grid, from results written down by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, grid
from benchmarks.pages import write_page
from training.errors import DrillError

QUALITY = dict.fromkeys(grid.METRICS, 0.9) | {"accuracy": 0.8}
CELL = grid.CELLS[0]
RESULT: dict[str, Any] = {
    "cell": asdict(CELL),
    "mean": QUALITY,
    "vote": QUALITY | {"accuracy": 0.75},
    "sample_epochs": 750_000,
    "training_seconds": 20.4,
    "stage_seconds": {"partition": 2.0, "train": 30.0},
    "machine": {"device": "NVIDIA X", "cores": 16, "python": "3.12.3", "torch": "2.11.0"},
}


def loops(**row: object) -> dict[str, Any]:
    return {
        "machine": {"device": "NVIDIA X", "cores": 16, "python": "3.12", "torch": "2.11", "cuda": "13.0", "cudnn": 9},
        "samples": 10_000,
        "rounds": 3,
        "naive": [{"network": "resnet9", "batch": 128, "rate": 5_000}],
        "loops": [
            {"network": "resnet9", "precision": "bf16", "batch": 32, "ours_recorded": 45_000, "limit_recorded": 50_000}
            | {"repeats": True}
            | row
        ],
    }


def test_a_loop_is_shown_beside_its_limit_and_the_naive_one() -> None:
    # 45,000 of 50,000 is .9; 45,000 / 5,000 is 9.
    page = gpu.page(loops())
    assert "| resnet9 | bf16 | 32 | – | – | – | 45,000 | 50,000 | 0.90 | 9.0 | yes |" in page.splitlines()
    page = gpu.page(loops(ours_eager=10_000, limit_eager=20_000, repeats=False))
    row = "| resnet9 | bf16 | 32 | 10,000 | 20,000 | 0.50 | 45,000 | 50,000 | 0.90 | 9.0 | **no** |"
    assert row in page.splitlines()
    assert "## CIFAR-10" not in page


def test_the_page_of_a_gpu_says_what_cifar10_took() -> None:
    page = gpu.page({**loops(), "cifar10": RESULT})
    assert "**20.4 s of training** for 750,000 sample-epochs, accuracy 0.8000 (mean) and 0.7500 (vote)" in page


def test_a_cell_stands_beside_the_references() -> None:
    lines = grid.page([RESULT]).splitlines()
    assert "| 5 | 5 | 750,000 | mean | 0.8000 | 0.7743 | 0.9000 | 0.9000 | 0.9000 | 0.9000 |" in lines
    assert "| 5 | 5 | resnet9 | 5 | 32 | 0.05 | bf16 | 750,000 | 20 s | 32 s |" in lines
    assert "NVIDIA X, 16 cores, Python 3.12.3, torch 2.11.0." in lines


def test_every_cell_of_the_reference_is_there_at_no_more_epochs_than_its_five() -> None:
    assert {(cell.shards, cell.slices) for cell in grid.CELLS} == grid.REFERENCE.keys()
    assert all(cell.epochs_per_slice <= 5 for cell in grid.CELLS)


def test_a_cell_that_is_in_the_data_is_not_trained_again(tmp_path: Path) -> None:
    data = tmp_path / "grid.json"
    data.write_text(json.dumps([RESULT]))
    # There is no source: training it would fail.
    assert grid.run_once(CELL, tmp_path / "workspace", tmp_path / "nowhere", "cpu", data) == RESULT
    assert not (tmp_path / "workspace").exists()


def test_what_was_written_below_a_page_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "grid.md"
    write_page(path, "first", "benchmarks.grid")
    path.write_text(path.read_text() + "\nA remark.\n")
    write_page(path, "second", "benchmarks.grid")
    assert path.read_text().startswith("second\n<!-- Written by hand")
    assert path.read_text().endswith("-->\n\nA remark.\n")
    path.write_text("The line is gone.\n")
    with pytest.raises(DrillError, match="has no line"):
        write_page(path, "third", "benchmarks.grid")
