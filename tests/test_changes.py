"""Missing data is not a deletion: what vanished, was renamed, corrected or replaced is told apart and named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from PIL import Image

from training.data.changes import Changes, Present, Trained, find_changes
from training.data.last_partition import vanished_ids
from training.errors import ParamsError, RequestError, SourceError
from training.forgetting.requests import show_request
from training.forgetting.vanished import request_vanished
from training.publish.events import Changed
from training.publish.history import read_history
from training.stages.partition import partition

LABELS = {f"{'cat' if number < 100 else 'dog'}/{number}.png": int(number >= 100) for number in range(200)}
CONTENTS = {sample_id: f"content of {sample_id}".encode() for sample_id in LABELS}
CLASSES = ("cat", "dog")
TRAINED = Trained(LABELS, CONTENTS, CLASSES)


def without(*gone: str, **changes: Any) -> Present:
    labels = {sample_id: label for sample_id, label in LABELS.items() if sample_id not in gone}
    contents = {sample_id: content for sample_id, content in CONTENTS.items() if sample_id not in gone}
    return Present({**labels, **changes.get("labels", {})}, {**contents, **changes.get("contents", {})}, CLASSES)


def some_of(count: int, first: int = 0) -> list[str]:
    return list(LABELS)[first : first + count]


def test_nothing_changed_and_nothing_is_said() -> None:
    found = find_changes(TRAINED, without(), set())
    assert (found.sentences(), found.vanished, found.corrected) == ([], (), ())
    found.refuse_loss()


def test_what_vanished_is_named_and_what_was_listed_is_no_part_of_it() -> None:
    found = find_changes(TRAINED, without(*some_of(3)), {"cat/0.png"})
    assert found.vanished == ("cat/1.png", "cat/2.png")
    assert found.sentences() == [
        "2 samples vanished from the source without being listed, and forgotten: cat/1.png, cat/2.png"
    ]


@pytest.mark.parametrize(("count", "stops"), [(0, False), (1, False), (2, False), (3, True), (99, True)])
def test_more_than_one_percent_stops_the_run(count: int, stops: bool) -> None:
    found = find_changes(TRAINED, without(*some_of(count)), set())  # of 200
    if stops:
        with pytest.raises(SourceError, match=rf"^{count} samples that were trained on .*Nothing was changed"):
            found.refuse_loss()
    else:
        found.refuse_loss()


def test_a_whole_class_stops_the_run_however_small_it_is() -> None:
    labels = {**{f"a/{number}": 0 for number in range(1000)}, "b/1": 1, "b/2": 1}
    contents = {name: name.encode() for name in labels}
    trained = Trained(labels, contents, ("a", "b"))
    now = Present({name: label for name, label in labels.items() if label == 0}, contents, ("a", "b"))
    with pytest.raises(SourceError, match=r"2 samples .*\(0.2% of 1002, with all that is left of 'b'\): b/1, b/2"):
        find_changes(trained, now, set()).refuse_loss()
    find_changes(trained, now, {"b/1", "b/2"}).refuse_loss()  # asked for
    with pytest.raises(SourceError, match=r"1 samples .*'b'"):
        find_changes(trained, now, {"b/1"}).refuse_loss()


def test_a_renamed_picture_did_not_vanish_and_one_in_another_class_is_corrected() -> None:
    new = {"cat/x.png": CONTENTS["cat/0.png"], "dog/y.png": CONTENTS["cat/1.png"]}
    found = find_changes(
        TRAINED, without("cat/0.png", "cat/1.png", labels={"cat/x.png": 0, "dog/y.png": 1}, contents=new), set()
    )
    assert found.renamed == {"cat/0.png": "cat/x.png", "cat/1.png": "dog/y.png"}
    assert (found.vanished, found.moved, found.corrected) == ((), ("cat/1.png",), ("cat/1.png",))


def test_a_class_that_was_renamed_as_a_whole_did_not_vanish() -> None:
    cats = some_of(100)
    new = {sample_id.replace("cat", "cats"): CONTENTS[sample_id] for sample_id in cats}
    found = find_changes(TRAINED, without(*cats, labels=dict.fromkeys(new, 0), contents=new), set())
    assert (found.vanished, found.emptied, len(found.renamed)) == ((), (), 100)
    found.refuse_loss()


def test_another_label_and_another_picture_are_corrections() -> None:
    now = without(labels={"cat/0.png": 1}, contents={"cat/1.png": b"another"})
    found = find_changes(TRAINED, now, set())
    assert (found.relabelled, found.replaced) == (("cat/0.png",), ("cat/1.png",))
    assert found.corrected == ("cat/0.png", "cat/1.png")
    assert found.sentences() == [
        "1 samples given another label: cat/0.png",
        "1 samples replaced by another picture of the same id: cat/1.png",
    ]


def test_labels_that_cannot_be_compared_are_no_correction() -> None:
    now = without(labels={"cat/0.png": 1})
    assert find_changes(Trained(LABELS, CONTENTS, ("cat", "cow", "dog")), now, set()).corrected == ()  # other numbers
    assert find_changes(Trained(LABELS, CONTENTS, CLASSES, frozenset({"cat/0.png"})), now, set()).corrected == ()


def test_the_first_partition_has_nothing_to_compare() -> None:
    assert find_changes(Trained({}, {}), without(), set()) == Changes()


# In a workspace.


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An image folder of 2 classes with 120 pictures each, partitioned."""
    project = Project.create(
        tmp_path / "project", data__source="imagefolder", data__root="pictures", sisa__shards=[0, 1]
    )
    generator = np.random.default_rng(0)
    for split, count in (("train", 120), ("test", 2)):
        for name in CLASSES:
            folder = project.folder / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    partition(project.workspace)
    return project


def said(project: Project, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    partition(project.workspace)
    return capsys.readouterr().out


def test_a_class_that_is_not_there_stops_the_run_and_comes_back(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = project.contents("data")
    shutil.move(project.folder / "pictures/train/cat", project.folder / "elsewhere")
    with pytest.raises(SourceError, match=r"^120 samples .*\(50.0% of 240, with all that is left of 'cat'\): cat/0"):
        partition(project.workspace)
    assert project.contents("data") == before
    assert len(vanished_ids(project.workspace)) == 120
    shutil.move(project.folder / "elsewhere", project.folder / "pictures/train/cat")
    assert "vanished" not in said(project, capsys)


def test_what_vanished_can_be_asked_for(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):  # of 240
        (project.folder / f"pictures/train/cat/{number}.png").unlink()
    with pytest.raises(SourceError, match="sisa forget vanished --request NAME"):
        partition(project.workspace)
    project.forget(*vanished_ids(project.workspace))
    out = said(project, capsys)
    assert "3 ids listed, 3 of them already gone" in out
    assert "vanished" not in out
    assert vanished_ids(project.workspace) == ()


def test_the_command_turns_what_vanished_into_a_request(project: Project) -> None:
    for number in range(3):
        (project.folder / f"pictures/train/cat/{number}.png").unlink()
    done = request_vanished(project.workspace, "lost-disk", by="ada")
    assert done.samples == ("cat/0.png", "cat/1.png", "cat/2.png")
    partition(project.workspace)
    assert show_request(project.workspace, "lost-disk").samples == done.samples
    with pytest.raises(RequestError, match="nothing vanished"):
        request_vanished(project.workspace, "again")


def test_what_changed_unasked_is_in_the_ledger_by_its_numbers(project: Project) -> None:
    pictures = project.folder / "pictures/train"
    (pictures / "cat/7.png").unlink()
    shutil.move(pictures / "cat/8.png", pictures / "dog/of-a-cat.png")
    shutil.copy(pictures / "dog/1.png", pictures / "dog/2.png")
    partition(project.workspace)
    (entry,) = [entry for entry in read_history(project.workspace) if isinstance(entry, Changed)]
    assert (entry.vanished, entry.relabelled, entry.replaced) == (1, 1, 1)


def test_a_few_that_vanished_are_forgotten_and_named(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.folder / "pictures/train/cat/7.png").unlink()
    assert "1 samples vanished from the source without being listed, and forgotten: cat/7.png" in said(project, capsys)
    assert "vanished" not in said(project, capsys)


def test_a_listed_picture_stays_known_when_its_file_is_deleted_however_much_later(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.forget("cat/7.png")
    partition(project.workspace)
    (project.folder / "pictures/train/cat/7.png").unlink()
    for more in ((), (), ("dog/1.png",), ("dog/1.png", "dog/2.png")):
        project.forget("cat/7.png", *more)
        assert "1 of them already gone" in said(project, capsys)


def test_lists_that_an_earlier_version_took_are_taken_once_more(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.forget("cat/7.png")
    partition(project.workspace)
    (project.folder / "pictures/train/cat/7.png").unlink()
    shutil.rmtree(project.folder / ".sisa")  # which the version before did not have
    (project.folder / "models/ledger.jsonl").unlink()
    assert "already gone: forget/requests.txt:1: 'cat/7.png'" in said(project, capsys)
    assert "already gone: forget/requests.txt:1: 'cat/7.png'" in said(project, capsys)


def test_another_picture_another_class_and_another_name_are_told_apart(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    train = project.folder / "pictures/train"
    Image.new("RGB", (8, 8)).save(train / "cat/1.png")
    (train / "cat/2.png").rename(train / "dog/two.png")
    (train / "cat/3.png").rename(train / "cat/three.png")
    out = said(project, capsys)
    assert "1 samples replaced by another picture of the same id: cat/1.png" in out
    assert "1 samples moved to another class: cat/2.png" in out
    assert "1 samples renamed in the source, the same pictures: cat/3.png" in out
    assert "vanished" not in out


@pytest.mark.parametrize(
    "change",
    [{"data__image_size": 16}, {"sisa__shards": [0, 1, 2]}, {"poison__samples": 20, "poison__target_class": "cat"}],
)
def test_parameters_replace_no_picture(
    project: Project, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    project.change(**change)
    for _ in range(2):
        out = said(project, capsys)
        assert "replaced by another" not in out
        assert "another label" not in out


def test_another_source_is_said_to_be_one_and_nothing_vanished(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.change(data__source="digits", data__root="data/raw")
    assert "another source than the last partition's" in said(project, capsys)
    assert "another source" not in said(project, capsys)


def test_a_source_that_moved_is_the_same_one(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.folder / "pictures").rename(project.folder / "photos")
    (project.folder / "photos/train/cat/7.png").unlink()
    project.change(data__root="photos")
    out = said(project, capsys)
    assert "another source" not in out
    assert "1 samples vanished" in out


def test_a_new_source_that_cannot_be_read_changes_nothing_for_the_one_before(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = project.contents("data/shards")
    project.change(data__source="digits", data__root="data/raw", poison__samples=10_000)  # more than there are
    with pytest.raises(ParamsError):
        partition(project.workspace)
    project.change(data__source="imagefolder", data__root="pictures", poison__samples=0)
    out = said(project, capsys)
    assert project.contents("data/shards") == before
    assert "another source" not in out
    assert "vanished" not in out


def test_shard_files_of_two_sources_say_nothing_of_what_vanished(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a run was killed while it put them in place."""
    old = project.workspace.shard_file(0).read_bytes()
    begun = project.workspace.own_file("begun.json")
    project.change(data__source="digits", data__root="data/raw")
    partition(project.workspace)
    project.workspace.shard_file(0).write_bytes(old)
    begun.write_text('{"sources": [["imagefolder", "pictures"], ["digits", "data/raw"]]}')
    assert "another source than the last partition's" in said(project, capsys)
    assert "another source" not in said(project, capsys)
