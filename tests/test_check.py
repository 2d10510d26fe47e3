"""`sisa check`: everything that would stop a run, named at once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY, Project
from faults import NO_FILE, as_an_ordinary_user, link_to_nowhere

from training.check import check
from training.errors import CheckError

Create = Callable[..., Project]


@pytest.fixture
def project(create: Create) -> Project:
    """A project with an image folder, where all is well."""
    project = create("project", data__source="imagefolder", data__root="photos")
    for name in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"):
        path = project.folder / "photos" / name
        path.parent.mkdir(parents=True)
        path.touch()  # no picture is opened
    return project


def refused(project: Project) -> str:
    with pytest.raises(CheckError) as caught:
        check(project.workspace)
    return str(caught.value)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


def test_where_all_is_well_it_says_so_in_a_line_and_writes_nothing(project: Project) -> None:
    before = state(project.folder)
    done = project.run("sisa", "check")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert state(project.folder) == before


def test_everything_is_named_at_once(project: Project) -> None:
    params = project.folder / "params.yaml"
    project.change(sisa__shards=-3, network__weights="models/initial/mine.pt", device="cuda")
    params.write_text(params.read_text().replace("slices:", "slice:"))
    shutil.rmtree(project.folder / "photos/test")
    link_to_nowhere(project.folder / "photos/train/cat/2.png")
    (project.folder / "forget/.x.txt").write_text("cat/1.png\n")
    (project.folder / "forget/b.txt").write_bytes(b"\xe9")
    (project.folder / ".dvcignore").write_text("forget\n")
    before = state(project.folder)
    done = project.run("sisa", "check", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for text in (
        "error: ",
        "sisa.shards: expected 1 to 100,000 shards, found -3",
        "sisa.slice: no such key (misspelt?); allowed here: shards, slices, aggregation",
        "sisa.slices: missing",
        "photos/test is not a folder",
        "photos/train/cat/2.png: a link to nowhere",
        "forget/.x.txt would not be read",
        "forget/b.txt is not UTF-8",
        "DVC ignores 3 of 3 in forget",
        "network.weights: models/initial/mine.pt is not a file that can be read",
    ):
        assert text in done.stderr
    assert state(project.folder) == before


def test_a_source_that_is_missing_is_named(project: Project) -> None:
    project.change(data__root="~/photos")
    assert "~/photos is not a folder (~ is not read as your home folder here)" in refused(project)
    for source in ("digits", "cifar10"):
        project.change(data__root="nothing", data__source=source)
        assert "data.root: " in refused(project)
        assert "nothing is not a folder; make it" in refused(project)
    project.change(data__root="x" * 300)
    assert "xxx is not a folder" in refused(project)
    project.change(data__root="params.yaml")
    assert "params.yaml is not a folder" in refused(project)


@pytest.mark.parametrize("root", [".", "..", "data", "data/shards", "models", "reports/photos", "photos/../data"])
def test_a_source_that_overlaps_with_what_is_written_is_named(project: Project, root: str) -> None:
    project.change(data__root=root)
    assert "which the pipeline writes; move the source into a folder of its own" in refused(project)


@pytest.mark.parametrize("kind", NO_FILE)
@pytest.mark.parametrize("folder", ["photos/train/cat", "models/initial", "data/raw"])
def test_what_dvc_would_fail_on_or_wait_for_is_named_in_every_folder_that_it_compares(
    project: Project, kind: str, folder: str
) -> None:
    if folder == "data/raw":
        project.change(data__source="cifar10", data__root="data/raw")
    make, reason = NO_FILE[kind]
    make(project.folder / folder / "x.png")
    assert f"{project.folder / folder}/x.png: {reason}" in refused(project)


def test_cifar10_may_be_a_link_and_what_torchvision_downloads_may_be_ignored(project: Project) -> None:
    project.change(data__source="cifar10", data__root="data/raw")
    (project.folder / "data/raw/cifar-10-batches-py").symlink_to(project.folder / "photos")
    check(project.workspace)


def test_a_link_to_a_folder_and_an_ignored_source_are_named(project: Project) -> None:
    (project.folder / "photos/train/bird").symlink_to(project.folder / "photos/test/cat")
    (project.folder / ".dvcignore").write_text("/photos/test\n")
    assert "photos/train/bird: a link to a folder" in refused(project)
    assert re.search(r"DVC ignores 2 of 4 in .*photos \(.*photos/test/cat/1.png", refused(project))


def test_what_nobody_may_read_is_named(project: Project) -> None:
    for name in ("photos/train/cat/1.png", "photos/test/dog", "forget/requests.txt"):
        (project.folder / name).chmod(0)
    try:
        done = project.run(*as_an_ordinary_user(sys.executable, "-m", "training.commands.app", "check"), check=False)
    finally:
        (project.folder / "photos/test/dog").chmod(0o755)
    assert done.returncode == 1
    assert "photos/train/cat/1.png: a file that cannot be read" in done.stderr
    assert "photos/test/dog: a folder that cannot be read (Permission denied)" in done.stderr
    assert "forget/requests.txt cannot be read (Permission denied)" in done.stderr


def test_folders_that_nobody_may_read_are_named_all_at_once(project: Project) -> None:
    project.change(network__weights="models/initial/mine.pt", data__root="photos/inner")
    folders = [project.folder / name for name in ("photos", "forget", "models/initial")]
    for folder in folders:
        folder.chmod(0)
    try:
        done = project.run(*as_an_ordinary_user(sys.executable, "-m", "training.commands.app", "check"), check=False)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert "Traceback" not in done.stderr
    assert "data.root: photos/inner is not a folder" in done.stderr
    assert "forget cannot be read (Permission denied)" in done.stderr
    assert "models/initial: a folder that cannot be read (Permission denied)" in done.stderr
    assert "models/initial/mine.pt is not a file that can be read" in done.stderr


def test_lists_and_weights_that_are_missing_are_named(project: Project) -> None:
    shutil.rmtree(project.folder / "forget")
    shutil.rmtree(project.folder / "models/initial")
    assert "forget is missing; create it" in refused(project)
    assert "models/initial is not a folder; make it" in refused(project)


def test_weights_that_dvc_ignores_are_named(project: Project) -> None:
    (project.folder / "models/initial/mine.pt").touch()
    project.change(network__weights="models/initial/mine.pt")
    check(project.workspace)
    (project.folder / ".dvcignore").write_text("*.pt\n")
    assert "DVC ignores 1 of 1 in" in refused(project)


def test_cuda_is_refused_exactly_where_torch_finds_none(project: Project) -> None:
    import torch

    project.change(device="cuda")
    if torch.cuda.is_available():
        check(project.workspace)
    else:
        assert "device: cuda, but this machine or this build of torch has no CUDA device" in refused(project)


LOADED = """
import sys
sys.argv = ["sisa", "check"]
from training.commands.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules))
"""


def test_it_waits_for_no_library_that_is_slow_to_load(project: Project) -> None:
    loaded = set(project.run(sys.executable, "-c", LOADED).stdout.split())
    assert not loaded & {
        "torch",
        "torchvision",
        "numpy",
        "PIL",
        "sklearn",
        "scipy",
        "onnx",
        "onnxruntime",
        "dvc",
        "yaml",
    }


def test_make_repro_checks_before_dvc_looks(tmp_path: Path) -> None:
    out = subprocess.run(
        ["make", "--dry-run", "repro"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    assert 0 < out.index("sisa check && ") < out.index("dvc repro && ")
