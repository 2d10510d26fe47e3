"""What of a folder of pictures is a sample, what is left out and said, and what must not be there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import NO_FILE, as_an_ordinary_user

from training.data.listing import Listing, list_pictures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with a picture each to train on and to test on; nothing here is decoded."""
    folder = tmp_path / "root"
    for name in ("train/cat/1.png", "train/dog/1.jpg", "test/cat/2.png", "test/dog/2.png"):
        touch(folder / name)
    return folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def problem(root: Path) -> str:
    """The only problem that there is."""
    (text,) = list_pictures(root).problems
    return text


def test_folders_are_classes_and_files_named_as_pictures_are_samples(root: Path) -> None:
    touch(root / "train/cat/deeper/3.WEBP")
    touch(root / "train/cat/10.png")
    (root / "test/bird").mkdir()
    assert list_pictures(root) == Listing(
        classes=("bird", "cat", "dog"),
        pictures={
            "train": ["cat/1.png", "cat/10.png", "cat/deeper/3.WEBP", "dog/1.jpg"],
            "test": ["cat/2.png", "dog/2.png"],
        },
        skipped=(),
        problems=(),
    )


@pytest.mark.parametrize(
    "name",
    ["train/bird", "test/bird", "train/cat/more", "train/cat/1/2/more", "train/cat/.hidden", "extra", "train/x.png"],
)
def test_a_link_to_a_folder_is_refused_by_name(root: Path, tmp_path: Path, name: str) -> None:
    touch(tmp_path / "elsewhere/4.png")
    link = root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere")
    assert problem(root).startswith(f"{link}: a link to a folder: DVC does not look behind it")
    assert "move the folder itself to this place" in problem(root)


def test_a_split_that_is_a_link_and_a_link_in_a_circle_are_refused(root: Path) -> None:
    (root / "test").rename(root.parent / "elsewhere")
    (root / "test").symlink_to(root.parent / "elsewhere")
    (root / "train/cat/circle").symlink_to(root)
    found = list_pictures(root).problems
    for name in ("test", "train/cat/circle"):
        assert any(text.startswith(f"{root / name}: a link to a folder") for text in found)


def test_a_link_to_a_file_and_a_source_that_is_a_link_are_allowed(root: Path, tmp_path: Path) -> None:
    # DVC compares what a link to a file leads to, and follows a link that is the dependency itself.
    (root / "train/cat/5.png").symlink_to(touch(tmp_path / "elsewhere/4.png"))
    (tmp_path / "link").symlink_to(root)
    found = list_pictures(tmp_path / "link")
    assert found.problems == ()
    assert found.pictures["train"] == ["cat/1.png", "cat/5.png", "dog/1.jpg"]


@pytest.mark.parametrize("name", ["train/cat/x.png", "test/dog/.x", "train/cat/note.txt", "extra"])
@pytest.mark.parametrize("kind", NO_FILE)
def test_what_is_not_a_file_is_refused_by_name(root: Path, name: str, kind: str) -> None:
    make, reason = NO_FILE[kind]
    make(root / name)
    assert problem(root).startswith(f"{root / name}: {reason}")


def test_a_folder_that_is_named_as_a_picture_is_refused(root: Path) -> None:
    touch(root / "train/cat/x.PNG/1.png")
    assert problem(root) == f"{root}/train/cat/x.PNG: a folder that is named as a picture; rename or remove it"


def test_what_dvc_stops_at_or_does_not_look_into_is_refused(root: Path) -> None:
    touch(root / "train/cat/.dvc/config")
    touch(root / "test/.dvcignore")
    inner, ignore = list_pictures(root).problems[::-1]
    assert inner.startswith(f"{root}/train/cat/.dvc: a DVC project of its own")
    assert ignore.startswith(f"{root}/test/.dvcignore: DVC allows no such file")


@pytest.mark.parametrize("name", ["#cat/1.png", " cat/1.png", "cat/a #1.png", "cat/1\n.png", "cat/\u200b.png"])
def test_a_name_that_no_forget_list_could_hold_is_refused(root: Path, name: str) -> None:
    touch(root / "train" / name)
    assert problem(root).startswith(f"{root}/train: the name {name!r} could not be written in a forget list")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes no such name")
def test_a_name_that_is_not_utf8_is_refused_in_printable_words(root: Path) -> None:
    touch(root / "train/cat" / os.fsdecode(b"caf\xe9.png"))
    assert r"'cat/caf\udce9.png' could not be written" in problem(root)
    problem(root).encode()
    (root / "train/cat" / os.fsdecode(b"caf\xe9.png")).unlink()
    (root / "train" / os.fsdecode(b".caf\xe9")).mkdir()
    (sentence,) = list_pictures(root).skipped
    assert r".caf\udce9 (folders: 1, pictures in them: 0)" in sentence
    sentence.encode()


def test_what_cannot_be_read_is_refused_by_name(root: Path) -> None:
    (root / "train/cat/1.png").chmod(0)
    (root / "test/dog").chmod(0)
    program = (
        "import sys; from pathlib import Path; from training.data.listing import list_pictures\n"
        f"print(*list_pictures(Path({str(root)!r})).problems, sep='\\n')"
    )
    try:
        out = run(*as_an_ordinary_user(sys.executable, "-c", program))
    finally:
        (root / "test/dog").chmod(0o755)
    assert out.splitlines() == [
        f"{root}/test/dog: a folder that cannot be read (Permission denied); allow reading it",
        f"{root}/train/cat/1.png: a file that cannot be read; allow reading it, or remove it",
    ]


def run(*command: str) -> str:
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True).stdout


LEFT_BEHIND: list[tuple[str, Callable[[str], str]]] = [
    (".ipynb_checkpoints/1-checkpoint.png", lambda split: f"{split}/cat"),
    ("@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", lambda split: f"{split}/cat"),
    ("__MACOSX/cat/._1.png", lambda split: split),
    (".hidden/1.png", lambda split: split),
    ("._1.png", lambda split: f"{split}/cat"),
    (".DS_Store", lambda split: split),
    ("Thumbs.db", lambda split: f"{split}/dog"),
    ("desktop.ini", lambda split: f"{split}/dog"),
]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("name", "where"), LEFT_BEHIND, ids=[name for name, _ in LEFT_BEHIND])
def test_what_tools_leave_behind_is_neither_a_class_nor_a_picture_and_is_said(
    root: Path, split: str, name: str, where: Callable[[str], str]
) -> None:
    before = list_pictures(root)
    touch(root / where(split) / name)
    found = list_pictures(root)
    assert (found.classes, found.pictures, found.problems) == (before.classes, before.pictures, ())
    (sentence,) = found.skipped
    assert sentence.startswith(f"{root}/{split}: not samples, skipped as hidden or left behind by tools: ")
    assert (
        "hidden files (1)" if name.startswith(".") and "/" not in name else name.split("/", maxsplit=1)[0]
    ) in sentence


def test_a_hidden_class_folder_is_named_with_what_is_in_it(root: Path) -> None:
    for number in range(3):
        touch(root / f"train/.bird/{number}.png")
    for name in ("cat", "dog"):
        touch(root / f"train/{name}/.ipynb_checkpoints/1.png")
        touch(root / f"train/{name}/.gitkeep")
    touch(root / "train/.bird/readme.txt")
    (sentence,) = list_pictures(root).skipped
    assert sentence == (
        f"{root}/train: not samples, skipped as hidden or left behind by tools: "
        ".bird (folders: 1, pictures in them: 3), "
        ".ipynb_checkpoints (folders: 2, pictures in them: 2), hidden files (2)"
    )


def test_files_that_are_not_pictures_and_pictures_beside_the_classes_are_counted(root: Path) -> None:
    for name in ("cat/notes.txt", "cat/4.tiff", "labels.csv", "5.png"):
        touch(root / "train" / name)
    assert list_pictures(root).skipped == (
        f"{root}/train: files skipped, not named as pictures (.png, .jpg, .jpeg, .webp, .bmp): 3",
        f"{root}/train: pictures skipped, in no class folder: 1",
    )


def test_one_class_and_a_missing_split_are_refused(root: Path, tmp_path: Path) -> None:
    for path in (root / "train/dog", root / "test/dog"):
        path.rename(path.parent / ".dog")
    assert "holds 1 class folder(s); a classifier needs at least 2" in problem(root)
    first, second = list_pictures(tmp_path / "nothing").problems
    assert "nothing/train is not a folder; expected" in first
    assert "nothing/test is not a folder; expected" in second
