"""What it costs to forget a person, with samples placed by subject and placed by picture.

    python -m benchmarks.subjects [--seeds 20] [--root data/raw]

50,000 samples, as CIFAR-10 has, are given to 2,500 made-up subjects of 20 samples each, at random. Each subject
is forgotten by itself, and the slices that are retrained are counted in sample-epochs, as fractions of a full
training; beside them the expected value. With ``--root``, a folder with CIFAR-10, one subject is also forgotten by the
stages partition and schedule themselves, and the cost is read off the plans. Prints Markdown; nothing is trained.
"""

from __future__ import annotations

import io
import platform
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from numpy.typing import NDArray

from training.chain.plan import ShardPlan, load_plan
from training.data.placement import assign_slots, placement_names
from training.stages.partition import partition
from training.stages.schedule import schedule
from training.workspace import Workspace

ROOT = Path(__file__).parents[1]
SAMPLES, SUBJECTS = 50_000, 2_500
EACH = SAMPLES // SUBJECTS
PARTITIONS = [(5, 10), (10, 10), (20, 10), (50, 10)]  # shards, slices; the first is the profile's

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def main(
    seeds: Annotated[int, typer.Option(help="placements to average over, each with subjects of its own")] = 20,
    root: Annotated[Path | None, typer.Option(help="a folder with CIFAR-10, to forget by the stages as well")] = None,
) -> None:
    print(
        f"{SAMPLES:,} samples of {SUBJECTS:,} subjects, {seeds} seeds; Python {platform.python_version()}, "
        f"numpy {np.__version__}\n\n"
        "| shards × slices | placed by | mean | expected | 5% to 95% of the subjects | shards retrained | "
        "largest shard, in mean ones |\n|---|---|---|---|---|---|---|"
    )
    for shards, slices in PARTITIONS:
        for by, names in (("subject", 1), ("picture", EACH)):
            costs, touched, largest = zip(
                *(forget_each(shards, slices, seed, by_subject=by == "subject") for seed in range(seeds)), strict=True
            )
            low, high = np.quantile(costs, (0.05, 0.95))
            print(
                f"| {shards} × {slices} | {by} | {np.mean(costs):.1%} | {expected(names, shards, slices):.1%} | "
                f"{low:.1%} to {high:.1%} | {np.mean(touched):.2f} | {np.mean(largest):.3f} |"
            )
    if root is not None:
        print(
            "\nBy the stages themselves, seed 0:\n\n| placed by | subject | retrained | sample-epochs | of a full training |"
        )
        print("|---|---|---|---|---|")
        for by in ("subject", "picture"):
            print(f"| {by} | {forget_by_stages(root.resolve(), by_subject=by == 'subject')} |")


def subjects_of(seed: int) -> Ints:
    """(SAMPLES,) the number of each sample's subject; each has ``EACH`` samples."""
    return np.random.default_rng(seed).permutation(SAMPLES) // EACH


def forget_each(shards: int, slices: int, seed: int, *, by_subject: bool) -> tuple[Floats, Floats, float]:
    """(SUBJECTS,) cost of each subject by itself as a fraction of a full training; (SUBJECTS,) shards retrained;
    and the largest shard's samples over the mean."""
    subjects = subjects_of(seed)
    named = [f"person {subject}" if by_subject else "" for subject in subjects.tolist()]
    slots = np.array(assign_slots(placement_names(map(str, range(SAMPLES)), named), shards, slices, seed))
    sizes = np.zeros((shards, slices), np.int64)
    np.add.at(sizes, (slots[:, 0], slots[:, 1]), 1)
    costs, touched = np.empty(SUBJECTS), np.empty(SUBJECTS)
    for subject, samples in enumerate(np.argsort(subjects, kind="stable").reshape(SUBJECTS, EACH)):
        costs[subject], touched[subject] = cost(slots[samples], sizes)
    return costs, touched, float(sizes.sum(axis=1).max()) * shards / SAMPLES


def cost(slots: Ints, sizes: Ints) -> tuple[float, int]:
    """Retraining without the samples at (K, 2) ``slots`` over training everything that is left, and shards retrained.

    ``sizes``: (S, R) samples by shard and slice, before. Slice r is trained on the union of slices 0 to r.
    """
    left = sizes.copy()
    np.subtract.at(left, (slots[:, 0], slots[:, 1]), 1)
    unions = left.cumsum(axis=1)
    touched = np.unique(slots[:, 0])
    retrained = sum(int(unions[shard, slots[slots[:, 0] == shard, 1].min() :].sum()) for shard in touched)
    return retrained / int(unions.sum()), len(touched)


def expected(names: int, shards: int, slices: int) -> float:
    """The expected cost of ``names`` independently placed names, forgotten together, as a fraction of a full training.

    Slice i of a shard (from 1) is retrained if one of them lies in it or before: with probability 1 − (1 − i/RS)^K.
    """
    union = np.arange(1, slices + 1)
    return float((union * (1 - (1 - union / (slices * shards)) ** names)).sum() / union.sum())


def forget_by_stages(root: Path, *, by_subject: bool) -> str:
    """Forget one subject of the CIFAR-10 in ``root`` by partition and schedule; what the plans then say, as table cells."""
    subjects = subjects_of(0).tolist()
    with tempfile.TemporaryDirectory() as name:
        workspace = Workspace(Path(name))
        params: dict[str, Any] = yaml.safe_load((ROOT / "profiles/cifar10.yaml").read_text())
        params["data"] |= {"root": str(root), "subjects": "data/subjects/made-up.csv" if by_subject else "none"}
        workspace.forget_folder.mkdir()
        table = workspace.root / "data/subjects/made-up.csv"
        table.parent.mkdir(parents=True)
        (workspace.root / "params.yaml").write_text(yaml.safe_dump(params))
        rows = [f"{sample_id},person {subject}\n" for sample_id, subject in enumerate(subjects)]
        table.write_text("".join(["sample_id,subject\n", *rows]))
        before = plans(workspace)
        listed = [str(sample_id) for sample_id, subject in enumerate(subjects) if subject == 0]
        lines = ["subject:person 0"] if by_subject else listed
        (workspace.forget_folder / "requests.txt").write_text("".join(f"{line}\n" for line in lines))
        after = plans(workspace)
    retrained = run = 0
    for old, new in zip(before, after, strict=True):
        stale = [slice_id for slice_id, key in enumerate(new.keys) if key != old.keys[slice_id]]
        retrained, run = retrained + len(stale), run + new.sample_epochs(stale)
    full = sum(plan.full_sample_epochs for plan in after)
    slices = sum(len(plan.keys) for plan in after)
    return f"person 0, {len(listed)} samples | {retrained} of {slices} slices | {run:,} | {run / full:.1%}"


def plans(workspace: Workspace) -> list[ShardPlan]:
    """The plans that partition and schedule make."""
    with redirect_stdout(io.StringIO()):
        partition(workspace)
        schedule(workspace)
    return [load_plan(path) for path in sorted(workspace.plan_folder.iterdir())]


if __name__ == "__main__":
    typer.run(main)
