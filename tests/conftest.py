"""Projects of their own for tests that run the pipeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from hypothesis import settings

from training.blocks import BLOCKS
from training.chain.checkpoints import load_checkpoint
from training.chain.plan import load_plan
from training.data.store import Shard, load_shard
from training.workspace import Workspace

pytest_plugins = ["no_skips", "server"]  # skips that fail in CI; the session's server

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

# Two test processes run side by side: more threads would only fight for the cores.
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
    "network": {"name": "resnet9", "weights": "none", "normalisation": "imagenet"},
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
        "threads": 1,
    },
    "forget": {"apply": True},
    "poison": {
        "samples": 0,
        "target_class": "0",
        "relabel": True,
        "trigger": {"size": 2, "value": 255, "position": "bottom-right"},
    },
}


STAGES = {
    "partition": "partition",
    "features": "features",
    "schedule": "schedule",
    "train": "train_block",
    "assemble": "assemble_and_publish",
    "evaluate": "evaluate",
    "membership": "membership",
    "backdoor": "backdoor",
    "report": "report",
}


MODELS = ("partition", "features", "schedule", "train", "assemble")  # what makes models; the stages after them judge


def run_stages(workspace: Workspace, *names: str) -> None:
    """Stages in this process, by name; all of them, in their order, when none is named."""
    for name in names or STAGES:
        stage = getattr(import_module(f"training.stages.{name}"), STAGES[name])
        if name == "train":
            for block in range(BLOCKS):
                stage(workspace, block)
        else:
            stage(workspace)


class Project:
    """A folder with a copy of the project's code, small parameters, and commands to run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def workspace(self) -> Workspace:
        """Fresh each time, so that it reads the parameters of now."""
        return Workspace(self.folder)

    @classmethod
    def create(cls, folder: Path, **changes: Any) -> Project:
        """``changes``: dotted parameters with ``__`` for the dot, as in ``training__precision="bf16"``."""
        for name in CODE:
            source, target = REPOSITORY / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        for name in ("data/raw", "data/subjects", "models/initial", "reports/drills"):
            (folder / name).mkdir(parents=True)
            (folder / name / ".gitkeep").touch()
        (folder / "forget").mkdir()
        (folder / "forget/requests.txt").write_text("# nothing yet\n")
        project = cls(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(SMALL))
        project.change(**changes)
        return project

    def with_git(self) -> Project:
        """The same, committed: what DVC needs."""
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.commit()
        return self

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

    def copy(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

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

    def stages(self, *names: str) -> None:
        """What ``dvc repro`` runs, in this process; without names, all of it."""
        run_stages(self.workspace, *names)

    def stage(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One stage as DVC runs it: a process of its own, on the code that was copied."""
        return self.run(sys.executable, "-m", f"training.stages.{name}", *arguments, check=check)

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def forget(self, *sample_ids: str) -> None:
        (self.folder / "forget/requests.txt").write_text("".join(f"{sample_id}\n" for sample_id in sample_ids))

    def contents(self, *folders: str) -> dict[str, bytes]:
        """Path to bytes of every file under ``folders``."""
        files = (path for folder in folders for path in sorted((self.folder / folder).rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def checkpoints(self) -> dict[str, str]:
        """Path to the digest of what two trainings of the same have in common: all but the seconds."""
        plans = [load_plan(path) for path in sorted(self.workspace.plan_folder.glob("shard-*"))]
        paths = {
            self.workspace.checkpoint_file(plan.shard, slice_id, key): key
            for plan in plans
            if not plan.abstains
            for slice_id, key in enumerate(plan.keys)
        }
        found = set(self.workspace.checkpoints_folder.rglob("*.safetensors"))
        assert found == paths.keys(), "every slice has a checkpoint, and none is off the chain"
        return {self.workspace.short(path): load_checkpoint(path, key).content for path, key in paths.items()}

    def models(self) -> dict[str, bytes | str]:
        """Everything that must be bit for bit equal between forgetting and never having seen."""
        exports = {path: content for path, content in self.contents("models/exports").items() if path.endswith("onnx")}
        return {**self.contents("data/shards", "models/plan"), **self.checkpoints(), **exports}

    def manifest(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "models/ensemble.json").read_text())
        return document

    def shard(self, shard_id: int) -> Shard:
        return load_shard(self.workspace.shard_file(shard_id))

    def victim(self, shard_id: int, slice_id: int) -> str:
        """The last sample of a slice, the one that a careless hash would leave out."""
        shard = self.shard(shard_id)
        return [name for name, where in zip(shard.ids, shard.slices, strict=True) if where == slice_id][-1]


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Project:
    """The project that ``make`` fills, made once for all test processes; copy it, never change it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    complete = folder.with_suffix(".complete")
    with FileLock(folder.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            complete.touch()
    return Project(folder)


@pytest.fixture(scope="session")
def trained_base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has published, its stages run in one process; copy it, never change it."""
    return made_once(tmp_path_factory, "trained", lambda folder: Project.create(folder).stages(*MODELS))


@pytest.fixture
def trained(trained_base: Project, tmp_path: Path) -> Project:
    """A project of one's own that has published, without DVC and without any evaluation."""
    return trained_base.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def reproduced_base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after a real ``dvc repro``; copy it, never change it."""

    def make(folder: Path) -> None:
        project = Project.create(folder).with_git()
        project.repro()
        project.commit()

    return made_once(tmp_path_factory, "reproduced", make)


@pytest.fixture
def reproduced(reproduced_base: Project, tmp_path: Path) -> Project:
    """A project of one's own after a real ``dvc repro``."""
    return reproduced_base.copy(tmp_path / "project")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Each device to train on; what only a GPU could run would have no test where there is none."""
    name: str = request.param
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return name


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Project]:
    """Make an untrained project of the given name."""

    def make(name: str, **changes: Any) -> Project:
        return Project.create(tmp_path / name, **changes)

    return make
