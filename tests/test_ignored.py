"""A deletion where DVC does not look would go unnoticed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project
from PIL import Image

from training.data.ignored import ignored, ignored_by_dvc, plain_patterns, refuse_ignored
from training.errors import SourceError

ROOT = Path(__file__).parents[1]
NAMES = ["train/cat/1.png", "train/cat/2.jpg", "train/dog/1.png", "test/cat/1.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``data/photos`` of a project."""
    for name in NAMES:
        path = tmp_path / "data/photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data/photos"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("", []),
        ("# /data/photos\n\n", []),
        ("/data", NAMES),
        ("/data/photos", NAMES),
        ("/data/photos/train", NAMES[:3]),
        ("/data/photos/train/cat", NAMES[:2]),
        ("/data/photos/train/cat/1.png", NAMES[:1]),
        ("/data/phot", []),
        ("/photos", []),
        ("/data/photos/test\n/data/photos/train/dog", NAMES[2:]),
        # Only DVC knows what these mean.
        ("data/photos/train/", NAMES[:3]),
        ("photos", NAMES),
        ("*.jpg", NAMES[1:2]),
        ("cat", [*NAMES[:2], *NAMES[3:]]),
        ("/data/*\n!/data/photos", []),
        ("/data/photos/*\n!/data/photos/train", NAMES[3:]),
        ("*.png\n!1.png", []),
        ("/data/**/cat/", [*NAMES[:2], *NAMES[3:]]),
        ("/data/photos/train/[a-c]*", NAMES[:2]),
    ],
)
def test_what_dvc_ignores_is_found(tmp_path: Path, folder: Path, patterns: str, expected: list[str]) -> None:
    (tmp_path / ".dvcignore").write_text(patterns)
    assert ignored(tmp_path, folder, NAMES) == expected
    assert ignored_by_dvc(tmp_path, folder, NAMES) == expected
    if expected:
        with pytest.raises(SourceError, match=rf"DVC ignores {len(expected)} of 4 in {folder} \({folder}/t"):
            refuse_ignored(tmp_path, folder, NAMES)
    else:
        refuse_ignored(tmp_path, folder, NAMES)


def test_files_of_patterns_on_the_way_to_the_folder_count_too(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "data/.dvcignore").write_text("dog\n")
    assert ignored(tmp_path, folder, NAMES) == NAMES[2:3]


def test_a_dvc_project_within_the_project_is_ignored(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "data/.dvc").mkdir()
    assert ignored(tmp_path, folder, NAMES) == NAMES


def test_outside_of_the_project_nothing_is_ignored(tmp_path: Path, folder: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".dvcignore").write_text("*\n")
    assert ignored(project, folder, NAMES) == []
    assert ignored(project, project / "../data/photos", NAMES) == []


def test_a_list_that_is_not_there_yet_would_be_ignored_as_well(tmp_path: Path) -> None:
    (tmp_path / "forget").mkdir()
    for pattern in ("/forget", "*.txt", "forget/"):
        (tmp_path / ".dvcignore").write_text(pattern)
        assert ignored(tmp_path, tmp_path / "forget", ["requests.txt"]) == ["requests.txt"]


@pytest.mark.parametrize("content", [b"caf\xe9", b"*.png\n!\n"], ids=["not UTF-8", "a pattern that is none"])
def test_patterns_that_cannot_be_read_are_an_error(tmp_path: Path, folder: Path, content: bytes) -> None:
    (tmp_path / ".dvcignore").write_bytes(content)
    with pytest.raises(SourceError, match=r"a \.dvcignore of .* cannot be read"):
        refuse_ignored(tmp_path, folder, NAMES)


def test_the_shipped_patterns_name_what_torchvision_downloads_and_no_other_pictures(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    names = ["cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz", "cifar-10-jpg/cat/1.png", "cifar-100/x.png"]
    folder = tmp_path / "data/raw"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert ignored(tmp_path, folder, names) == ignored_by_dvc(tmp_path, folder, names) == names[:2]
    assert plain_patterns(tmp_path, folder) is not None  # so no command waits for DVC


@pytest.mark.pipeline
def test_dvc_notices_every_deletion_that_partition_allows(create: Callable[..., Project]) -> None:
    root = "data/raw/cifar-10-jpg"  # what the shipped patterns once named
    project = create("project", data__source="imagefolder", data__root=root).with_git()
    names = ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")
    for number, name in enumerate(names):
        path = project.folder / root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    assert project.repro("partition") == ["partition"]
    (project.folder / root / "train/cat/2.png").unlink()
    noticed = project.run("dvc", "repro", "partition", check=False)
    assert "no longer in the source" in noticed.stdout + noticed.stderr  # one of three: so much has to be asked for
    project.forget("cat/2.png")
    assert project.repro("partition") == ["partition"]

    (project.folder / root / "train/dog/1.png").rename(project.folder / "1.png")
    (project.folder / root / "train/dog/1.png").symlink_to(project.folder / "1.png")
    assert project.repro("partition") == []  # the same picture
    Image.new("RGB", (8, 8), (1, 2, 3)).save(project.folder / "1.png")
    assert project.repro("partition") == ["partition"]  # it looks behind a link to a file

    (project.folder / root / "train/bird").symlink_to(project.folder / root / "test/cat")
    (project.folder / root / "train/cat/1.png").write_bytes(b"")  # so that there is something to do
    done = project.run("dvc", "repro", "partition", check=False)
    assert done.returncode != 0
    assert f"{root}/train/bird: a link to a folder" in done.stderr
