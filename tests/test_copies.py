"""What is forgotten stays forgotten, whatever it is called; copies of it are named, or forgotten too."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from PIL import Image
from sklearn.datasets import load_sample_images

from training.data.prints import NOTHING, look_of
from training.data.store import load_shard
from training.errors import ForgetListError, ReturnedError
from training.forgetting.reinstate import reinstate
from training.memory.suppressed import Suppressed
from training.publish.history import read_history
from training.publish.suppress import recall

SIDE = 72


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of two classes: ten parts of a photograph each to train on, and two to test on."""
    root = tmp_path_factory.mktemp("gallery")
    for name, photograph in zip(("cat", "dog"), load_sample_images().images, strict=True):
        places = [(top, left) for top in range(140, 427 - SIDE, SIDE) for left in range(0, 640 - SIDE, SIDE)]
        parts = [photograph[top : top + SIDE, left : left + SIDE] for top, left in places]
        parts = [part for part in parts if look_of(part) != NOTHING]
        for split, some in (("train", parts[:10]), ("test", parts[10:12])):
            (root / split / name).mkdir(parents=True)
            for number, part in enumerate(some):
                Image.fromarray(part).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture
def project(create: Callable[..., Project], gallery: Path) -> Project:
    made = create("project", data__source="imagefolder", data__root="pictures", data__duplicates="report")
    shutil.copytree(gallery, made.folder / "pictures")
    return made


def train(project: Project) -> Path:
    return project.folder / "pictures/train"


def partition(project: Project) -> None:
    project.stages("partition")


def held(project: Project) -> set[str]:
    """The ids that are trained on."""
    return {name for shard_id in range(3) for name in project.shard(shard_id).ids}


def in_test(project: Project) -> set[str]:
    return set(load_shard(project.workspace.test_file).ids)


def copies(project: Project) -> list[tuple[str, ...]]:
    with project.workspace.copies_file.open(newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def convert(picture: Path | str, to: Path, **options: Any) -> None:
    Image.open(picture).convert("RGB").save(to, **options)
    Path(picture).unlink()


def shards(project: Project) -> dict[str, bytes]:
    return project.contents("data/shards") | {"test": project.workspace.test_file.read_bytes()}


def test_copies_of_what_is_forgotten_are_named_and_leave_the_test_split(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    original = train(project) / "cat/3.png"
    shutil.copy(original, train(project) / "cat/3 (1).png")
    convert(shutil.copy(original, project.folder / "x.png"), train(project) / "dog/x.jpg", quality=80)
    shutil.copy(original, project.folder / "pictures/test/dog/same.png")
    convert(shutil.copy(original, project.folder / "x.png"), project.folder / "pictures/test/cat/alike.jpg", quality=80)
    project.forget("cat/3.png")
    capsys.readouterr()
    partition(project)
    assert copies(project) == [
        ("train", "cat/3 (1).png", "file", "cat/3.png", "kept"),
        ("train", "dog/x.jpg", "look", "cat/3.png", "kept"),
        ("test", "cat/alike.jpg", "look", "cat/3.png", "kept"),
        ("test", "dog/same.png", "file", "cat/3.png", "left out"),
    ]
    assert held(project) >= {"cat/3 (1).png", "dog/x.jpg"}
    assert "cat/3.png" not in held(project)
    assert in_test(project) == {"cat/0.png", "cat/1.png", "cat/alike.jpg", "dog/0.png", "dog/1.png"}
    out = capsys.readouterr().out
    assert "left out, as copies of what is forgotten: 1 (data/copies.csv has them all)" in out
    assert "  test/dog/same.png: the same file as cat/3.png\n" in out
    assert "  train/dog/x.jpg: looks like cat/3.png\n" in out

    before = shards(project)
    partition(project)  # they were there when it was asked: said again, and nothing stops
    assert "kept, though copies: 3" in capsys.readouterr().out
    assert shards(project) == before


def test_with_forget_every_copy_is_forgotten_too_and_stays_so(project: Project) -> None:
    partition(project)
    everything = held(project)
    original = train(project) / "cat/3.png"
    added = {"cat/3 (1).png", "dog/x.jpg", "dog/y.webp"}
    shutil.copy(original, train(project) / "cat/3 (1).png")
    convert(shutil.copy(original, project.folder / "x.png"), train(project) / "dog/x.jpg", quality=80)
    convert(shutil.copy(original, project.folder / "x.png"), train(project) / "dog/y.webp", lossless=True)
    convert(shutil.copy(original, project.folder / "x.png"), project.folder / "pictures/test/cat/alike.jpg", quality=80)
    project.change(data__duplicates="forget")
    partition(project)
    assert held(project) == everything | added
    project.forget("cat/3.png")
    partition(project)
    assert held(project) == everything - {"cat/3.png"}
    assert "cat/alike.jpg" not in in_test(project)
    assert [(row[1], row[2]) for row in copies(project) if row[0] == "train"] == [
        ("cat/3 (1).png", "file"),
        ("dog/x.jpg", "look"),
        ("dog/y.webp", "pixels"),
    ]
    before = shards(project)
    original.unlink()  # the copies are remembered for themselves
    project.forget()
    partition(project)
    assert shards(project) == before
    project.change(data__duplicates="report")
    with pytest.raises(
        ReturnedError, match=r"train/dog/x\.jpg: a sample that forget/requests\.txt asked to forget, under"
    ):
        partition(project)


def rename(cats: Path, stay: str) -> str:
    (cats / "3.png").rename(cats / "3b.png")
    return "cat/3b.png"


def to_jpeg(cats: Path, stay: str) -> str:
    convert(cats / "3.png", cats / "3.jpg", quality=75)
    return "cat/3.jpg"


def to_jpeg_to_webp(cats: Path, stay: str) -> str:
    convert(cats / "3.png", cats / "3.jpg", quality=85)
    convert(cats / "3.jpg", cats / "3.webp", quality=80)
    return "cat/3.webp"


def to_lossless_webp(cats: Path, stay: str) -> str:
    convert(cats / "3.png", cats / "3.webp", lossless=True)
    return "cat/3.webp"


def resize(cats: Path, stay: str) -> str:
    Image.open(cats / "3.png").resize((200, 200), Image.Resampling.BICUBIC).save(cats / "3-large.png")
    (cats / "3.png").unlink()
    return "cat/3-large.png"


def another_class(cats: Path, stay: str) -> str:
    (cats / "3.png").rename(cats.parent / "dog/3c.png")
    return "dog/3c.png"


def copy(cats: Path, stay: str) -> str:
    shutil.copy(cats / "3.png", cats / "3 (1).png")
    return "cat/3 (1).png"


def turned(cats: Path, stay: str) -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(cats / "3.png").transpose(Image.Transpose.ROTATE_90).save(cats / "3-turned.png", exif=exif)
    (cats / "3.png").unlink()
    return "cat/3-turned.png"


def over_another(cats: Path, stay: str) -> str:
    """A converted copy takes the place, and the name, of a sample that is trained on."""
    convert(cats / "3.png", cats / "7.png", format="JPEG", quality=80)
    return "cat/7.png"


WAYS_BACK = (
    rename,
    to_jpeg,
    to_jpeg_to_webp,
    to_lossless_webp,
    resize,
    another_class,
    copy,
    turned,
    over_another,
)


@pytest.mark.parametrize("image_size", [8, 16])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("way", WAYS_BACK)
def test_a_way_back_is_refused_by_name_and_nothing_is_changed(
    project: Project, way: Callable[[Path, str], str], listed: bool, image_size: int
) -> None:
    partition(project)
    project.forget("cat/3.png")
    partition(project)
    before = shards(project)
    name = way(train(project) / "cat", "")
    if not listed:
        project.forget()
    project.change(data__image_size=image_size)
    with pytest.raises(ReturnedError, match=re.escape(f"train/{name}: ")):
        partition(project)
    assert shards(project) == before
    with pytest.raises(ReturnedError, match=re.escape(f"train/{name}: ")):  # and so it stays
        partition(project)

    project.forget("cat/3.png", name)  # who lists it keeps it out
    partition(project)
    assert not held(project) & {"cat/3.png", name}


@pytest.mark.parametrize("way", WAYS_BACK)
def test_with_forget_a_way_back_leads_nowhere(project: Project, way: Callable[[Path, str], str]) -> None:
    project.change(data__duplicates="forget")
    project.forget("cat/3.png")
    partition(project)
    before = held(project)
    name = way(train(project) / "cat", "")
    project.forget()
    partition(project)
    assert held(project) == before - {name}


def test_a_sample_that_is_taken_off_the_lists_is_refused_until_it_is_reinstated(project: Project) -> None:
    partition(project)
    everything = shards(project)
    project.forget("cat/3.png")
    partition(project)
    project.forget()
    with pytest.raises(ReturnedError, match=r"train/cat/3\.png: a sample that forget/requests\.txt asked") as caught:
        partition(project)
    assert "`sisa forget reinstate ID --reason …`" in str(caught.value)
    reinstate(project.workspace, ["cat/3.png"], "consent given again")
    partition(project)
    assert shards(project) == everything


def test_one_that_only_looks_alike_is_let_in_by_name(project: Project) -> None:
    project.forget("cat/3.png")
    partition(project)
    convert(shutil.copy(train(project) / "cat/3.png", project.folder / "x.png"), train(project) / "dog/twin.jpg")
    with pytest.raises(ReturnedError, match=r"train/dog/twin\.jpg: looks like cat/3\.png"):
        partition(project)
    assert copies(project) == [("train", "dog/twin.jpg", "look", "cat/3.png", "refused")]
    reinstate(project.workspace, ["dog/twin.jpg"], "a picture of her sister")
    partition(project)
    assert "dog/twin.jpg" in held(project)
    assert "cat/3.png" not in held(project)
    assert copies(project) == []


def test_another_picture_is_no_copy(project: Project) -> None:
    project.forget("cat/3.png")
    partition(project)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(noise).save(train(project) / "cat/new.png")
    shutil.copy(train(project) / "dog/5.png", train(project) / "dog/5 (1).png")  # of what is not forgotten
    partition(project)
    assert held(project) >= {"cat/new.png", "dog/5 (1).png"}
    assert copies(project) == []


def test_a_file_is_known_also_where_another_decoder_makes_other_pixels_of_it(project: Project) -> None:
    project.forget("cat/3.png")
    partition(project)
    path = project.workspace.suppressed_file
    memory = recall(project.workspace)
    (sample,) = memory.samples.values()
    assert isinstance(sample, Suppressed)
    assert None not in (sample.content, sample.upright, sample.look)
    # As if the pixels had been remembered under another version of Pillow.
    text = path.read_text().replace(str(sample.upright), "0" * 32).replace(str(sample.look), "5a" * 32)
    digests = [batch.digest for batch in memory.batches]
    path.write_text(text)
    for ledger in (project.workspace.ledger_file, project.workspace.ledger_export):
        ledger.write_text(ledger.read_text().replace(digests[0], recalled(path)))
    rename(train(project) / "cat", "")
    with pytest.raises(ReturnedError, match=r"cat/3b\.png: the same file as"):
        partition(project)


def recalled(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_lists_that_are_only_monitored_name_copies_and_leave_nothing_out(project: Project) -> None:
    shutil.copy(train(project) / "cat/3.png", project.folder / "pictures/test/cat/same.png")
    shutil.copy(train(project) / "cat/3.png", train(project) / "cat/3 (1).png")
    project.change(forget__apply=False, data__duplicates="forget")
    partition(project)
    before = shards(project)
    project.forget("cat/3.png")
    partition(project)
    assert shards(project) == before
    assert copies(project) == [
        ("train", "cat/3 (1).png", "file", "cat/3.png", "kept"),
        ("test", "cat/same.png", "file", "cat/3.png", "kept"),
    ]


def test_a_picture_that_cannot_be_decoded_can_be_forgotten_and_its_file_is_known(project: Project) -> None:
    (train(project) / "cat/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    project.forget("cat/broken.png")
    partition(project)
    (train(project) / "cat/broken.png").rename(train(project) / "dog/broken.png")
    with pytest.raises(ReturnedError, match=r"dog/broken\.png: the same file as"):
        partition(project)


def test_a_test_split_of_copies_alone_is_refused(project: Project) -> None:
    shutil.rmtree(project.folder / "pictures/test")
    for name in ("cat", "dog"):
        (project.folder / "pictures/test" / name).mkdir(parents=True)
    shutil.copy(train(project) / "cat/3.png", project.folder / "pictures/test/cat/same.png")
    project.forget("cat/3.png")
    with pytest.raises(ForgetListError, match="nothing is left to test on"):
        partition(project)


def test_a_bad_picture_changes_no_shard_file(project: Project) -> None:
    partition(project)
    before = shards(project)
    shutil.copy(train(project) / "cat/0.png", train(project) / "cat/new.png")
    (train(project) / "dog/broken.png").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"dog/broken\.png"):
        partition(project)
    assert shards(project) == before
    assert not list(project.workspace.shards_folder.glob(".*"))


def test_nothing_that_is_remembered_or_reported_names_what_was_forgotten_by_a_private_way(project: Project) -> None:
    project.forget("cat/3.png")
    partition(project)
    assert "cat/3" not in project.workspace.suppressed_file.read_text()
    assert "cat/3" not in project.workspace.ledger_file.read_text()
    assert [entry.event for entry in read_history(project.workspace)] == ["requested"]
