"""Workspaces of their own for tests that run the pipeline."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

pytest_plugins = ["server"]  # the session's server

# No deadline: a busy machine is not a failure.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

REPOSITORY = Path(__file__).parents[1]
CODE = (
    "training",
    "serving",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "profiles",
)

# One training process a core; torch on two threads would only fight for them.
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "120",
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@example.invalid",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@example.invalid",
}

# Real digits, few and small: 3 shards, 3 slices, a second of training.
SMALL: dict[str, Any] = {
    "seed": 0,
    "device": "cpu",
    "data": {"source": "digits", "root": "data/raw", "image_size": 8},
    "sisa": {"shards": [0, 1, 2], "slices": 3, "aggregation": "mean"},
    "network": {"name": "resnet9", "weights": "none"},
    "training": {
        "epochs_per_slice": 1,
        "batch_size": 32,
        "learning_rate": 0.05,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.0005,
        "schedule": "one-cycle",
        "label_smoothing": 0.0,
        "augmentation": "flip-crop",
        "precision": "fp32",
    },
    "forget": {"apply": True},
    "poison": {
        "samples": 0,
        "target_class": "0",
        "relabel": True,
        "trigger": {"size": 2, "value": 255, "position": "bottom-right"},
    },
}

# All stages' own main() in one process: what `dvc repro` runs, without the imports of eleven processes.
ALL_STAGES = """
from training import assemble, export, partition, schedule, stage, train
from training.evaluation import backdoor, evaluate, membership, report
from training.params import load_params
def main() -> None:
    partition.main()
    schedule.main()
    for shard in load_params().sisa.shards:
        train.main(shard)
        export.main(shard)
    assemble.main()
    evaluate.main()
    membership.main()
    backdoor.main()
    report.main()
stage.run(main)
"""


class Workspace:
    """A folder with a copy of the project's code, small parameters, and commands to run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, **changes: Any) -> Workspace:
        """``changes``: dotted parameters with ``__`` for the dot, as in ``training__precision="bf16"``."""
        for name in CODE:
            source, target = REPOSITORY / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (folder / "data/raw").mkdir(parents=True)
        (folder / "data/raw/.gitkeep").touch()
        (folder / "models/initial").mkdir(parents=True)
        (folder / "models/initial/.gitkeep").touch()
        (folder / "reports/drills").mkdir(parents=True)
        (folder / "reports/drills/.gitkeep").touch()
        (folder / "forget").mkdir()
        (folder / "forget/requests.txt").write_text("# nothing yet\n")
        workspace = cls(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(SMALL))
        workspace.change(**changes)
        workspace.run("git", "init", "--quiet", "--initial-branch=main")
        workspace.commit()
        return workspace

    def change(self, **changes: Any) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for name, value in changes.items():
            *sections, key = name.split("__")
            section = params
            for part in sections:
                section = section[part]
            section[key] = value
        path.write_text(yaml.safe_dump(params))

    def copy(self, folder: Path) -> Workspace:
        shutil.copytree(self.folder, folder)
        return Workspace(folder)

    def run(self, *command: str, check: bool = True, seconds: int = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=seconds
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A process of its own session, so that it can be killed alone."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def repro(self, *arguments: str) -> list[str]:
        """``dvc repro``; the names of the stages that ran."""
        out = self.run("dvc", "repro", *arguments).stdout
        return [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]

    def all_stages(self) -> str:
        return self.run(sys.executable, "-c", ALL_STAGES).stdout

    def stage(self, module: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"training.{module}", *arguments, check=check)

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def forget(self, *sample_ids: str) -> None:
        (self.folder / "forget/requests.txt").write_text("".join(f"{sample_id}\n" for sample_id in sample_ids))

    def contents(self, *folders: str) -> dict[str, bytes]:
        """Path to bytes of every file under ``folders``."""
        files = (path for folder in folders for path in sorted((self.folder / folder).rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def models(self) -> dict[str, bytes]:
        """Everything that must be bit for bit equal between forgetting and never having seen."""
        return self.contents("data/shards", "models/plan", "models/checkpoints", "models/exports")


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Workspace:
    """The workspace that ``make`` fills, made once for all test processes; copy it, never change it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    complete = folder.with_suffix(".complete")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            complete.touch()
    return Workspace(folder)


@pytest.fixture(scope="session")
def trained_base(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One workspace after ``dvc repro``; copy it, never change it."""

    def make(folder: Path) -> None:
        workspace = Workspace.create(folder)
        workspace.repro()
        workspace.commit()

    return made_once(tmp_path_factory, "trained", make)


@pytest.fixture
def trained(trained_base: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of one's own in which the small pipeline has run."""
    return trained_base.copy(tmp_path / "workspace")


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Workspace]:
    """Make an untrained workspace of the given name."""

    def make(name: str, **changes: Any) -> Workspace:
        return Workspace.create(tmp_path / name, **changes)

    return make
