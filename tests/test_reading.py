"""What is asked is what is read: an edit at any moment is either in the models that are published or stops the run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, made_once
from moment import Moment, run_with
from PIL import Image

from training.data.reading import EVERYTHING, LISTS_ALONE, compare
from training.errors import ChangedError, ForgetListError
from training.memory.digests import FileDigests
from training.stages.assemble import assemble_and_publish
from training.stages.partition import partition

Edit = Callable[[Path], object]


def draw_pictures(root: Path) -> None:
    """Two classes of 60 pictures to train on and of 4 to test on: one of them is less than 1% of all."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 4)):
        for name, brightness in (("dark", 60), ("light", 200)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-50, 50, (8, 8, 3))
                Image.fromarray((brightness + noise).astype(np.uint8)).save(folder / f"{number}.png")


def create_with_pictures(folder: Path) -> Project:
    project = Project.create(
        folder, data__source="imagefolder", data__root="pictures", sisa__shards=[0, 1], sisa__slices=1
    )
    draw_pictures(folder / "pictures")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An image folder, partitioned."""
    project = create_with_pictures(tmp_path / "project")
    partition(project.workspace)
    return project


def ids(project: Project) -> set[str]:
    return {name for shard_id in (0, 1) for name in project.shard(shard_id).ids}


# The memory of files.


def stamp(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def test_a_file_that_is_as_it_was_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    remembered = {"a": (*stamp(tmp_path / "a"), "00" * 32)}  # not its digest: it shows where the answer comes from
    assert FileDigests(tmp_path, remembered).digest("a") == bytes(32)
    assert FileDigests(tmp_path).digest("a").hex() == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


@pytest.mark.parametrize(
    "edit",
    [
        lambda path: path.write_text("two"),
        lambda path: path.with_name("b").rename(path),
        lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns)),  # size and mtime stay: the ctime tells
    ],
)
def test_a_file_that_may_be_another_one_is_read(tmp_path: Path, edit: Edit) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    (tmp_path / "b").write_text("one")
    remembered = {"a": (*stamp(path), "00" * 32)}
    edit(path)
    assert FileDigests(tmp_path, remembered).digest("a") != bytes(32)


def test_a_file_that_was_just_written_is_remembered_and_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    first = FileDigests(tmp_path)
    digest = first.digest("a")
    assert first.seen["a"][3] == 0  # which no file's ctime is
    path.write_text("two")  # perhaps within the same tick of the clock
    assert FileDigests(tmp_path, first.seen).digest("a") != digest


def test_a_file_of_yesterday_is_trusted_whatever_time_it_bears(tmp_path: Path) -> None:
    old = Path(os.__file__)  # Python's own: installed before this test began
    digests = FileDigests(old.parent)
    digests.digest(old.name)
    assert digests.seen[old.name][:4] == stamp(old)


# What the last partition read, and what is there now.

EDITS: dict[str, tuple[Edit, str]] = {
    "an id more": (
        lambda folder: (folder / "forget/requests.txt").write_text("dark/1.png\n"),
        "forget/requests.txt: it named 0 ids and names 1 now",
    ),
    "a list more": (
        lambda folder: (folder / "forget/more.txt").write_text("dark/1.png\ndark/2.png\n"),
        "forget/more.txt: it named 0 ids and names 2 now",
    ),
    "a list that cannot be read": (
        lambda folder: (folder / "forget/more.txt").write_bytes(b"\xff\xfe"),
        "more.txt is not UTF-8",
    ),
    "a picture less": (
        lambda folder: (folder / "pictures/train/dark/1.png").unlink(),
        "pictures/train/dark/1.png: removed",
    ),
    "a test picture less": (
        lambda folder: (folder / "pictures/test/dark/1.png").unlink(),
        "pictures/test/dark/1.png: removed",
    ),
    "a picture more": (
        lambda folder: (folder / "pictures/train/dark/x.png").write_bytes(b"x"),
        "pictures/train/dark/x.png: added",
    ),
    "another picture": (
        lambda folder: (folder / "pictures/train/dark/1.png").write_bytes(b"x"),
        "pictures/train/dark/1.png: another content",
    ),
    "a class more": (lambda folder: (folder / "pictures/train/grey").mkdir(), "pictures: the class grey"),
    "a parameter": (
        lambda folder: Project(folder).change(data__image_size=16),
        "params.yaml: data.image_size",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_changed_since_the_last_partition_is_named(project: Project, name: str) -> None:
    edit, sentence = EDITS[name]
    assert compare(project.workspace).changed == ()
    edit(project.folder)
    (found,) = compare(project.workspace).changed
    assert sentence in found


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: (folder / "forget/requests.txt").write_text("# only a remark\n"),
        lambda folder: (folder / "pictures/train/dark/1.png").touch(),
        lambda folder: (folder / "pictures/train/dark/notes.txt").write_text("not a picture"),
        lambda folder: Project(folder).change(training__learning_rate=0.01),  # of no concern to partition
    ],
)
def test_what_changes_nothing_that_is_asked_is_no_difference(project: Project, edit: Edit) -> None:
    edit(project.folder)
    for full in (False, True):
        assert compare(project.workspace, full=full).changed == ()


def test_an_edit_that_leaves_size_and_times_is_found_by_reading_everything(project: Project) -> None:
    path = project.workspace.own_file("reading.json")
    document = json.loads(path.read_text())
    document["files"]["train/dark/1.png"] = [*stamp(project.folder / "pictures/train/dark/1.png"), "00" * 32]
    path.write_text(json.dumps(document))
    assert compare(project.workspace).changed == ()
    (found,) = compare(project.workspace, full=True).changed
    assert found.endswith("pictures/train/dark/1.png: another content")


def test_without_a_look_of_its_own_a_folder_compares_the_lists_alone(project: Project) -> None:
    for lose in (
        lambda: (project.folder / "data/reading.json").write_text('{"time": "another one"}'),  # by dvc checkout
        lambda: project.workspace.own_file("reading.json").write_text("damaged"),
        project.workspace.own_file("reading.json").unlink,  # or a clone
    ):
        lose()
        found = compare(project.workspace)
        assert (found.changed, found.compared) == ((), LISTS_ALONE)
    project.forget("dark/1.png")
    (found_list,) = compare(project.workspace).changed
    assert found_list.endswith("forget: the lists name other ids")
    partition(project.workspace)
    assert compare(project.workspace).compared == EVERYTHING


def test_without_a_complete_partition_that_is_the_difference(project: Project) -> None:
    project.workspace.partition_file.unlink()
    (found,) = compare(project.workspace).changed
    assert "data/partition.json is missing" in found


def test_what_changed_before_publishing_is_not_published_and_one_retry_succeeds(trained: Project) -> None:
    victim = trained.victim(1, 1)
    trained.forget(victim)
    with pytest.raises(
        ChangedError, match=r"changed meanwhile, run it again:\n.*requests.txt: it named 0 ids and names 1 now"
    ):
        assemble_and_publish(trained.workspace)
    assert not trained.workspace.partition_file.exists()
    assert [shard.get("pending", False) for shard in trained.manifest()["shards"]] == [False, True, False]
    trained.stages("partition", "schedule", "train", "assemble")
    assert not any(shard.get("pending") for shard in trained.manifest()["shards"])
    assert trained.manifest()["forgotten"]["listed"] == 1
    assert victim not in trained.shard(1).ids


def test_a_partition_that_does_not_count_still_says_what_was_forgotten(trained: Project) -> None:
    trained.forget("3")
    trained.stages("partition")
    trained.workspace.partition_file.unlink()  # as where something changed meanwhile
    trained.change(forget__apply=False)
    with pytest.raises(ForgetListError, match=r"1 listed samples \(3\) are not trained on now"):
        partition(trained.workspace)


# Edits in every window, on real DVC. The file that makes partition run again is the only one that is missing, so all
# that it writes is as it was: DVC then sees no reason to run anything else.

READING = "data/reading.json"
WINDOWS = {
    "while partition reads": Moment("training.stages.partition", "data/shards/shard-1.npy"),
    "after its last look": Moment("training.stages.partition", READING),
    "while DVC hashes what partition depends on": Moment("dvc repro", "pictures/train/dark", once=READING),
    "while DVC hashes what it wrote": Moment("dvc repro", READING, once=READING),
    "while DVC commits": Moment("dvc repro", ".dvc/cache/files/md5", once=READING),
    "before publishing": Moment("training.stages.assemble", ".sisa/reading.json"),
}
LISTING = "open('forget/requests.txt', 'a').write('dark/1.png\\n')"
REMOVAL = "os.unlink('pictures/train/dark/1.png')"


@pytest.fixture(scope="session")
def published_base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    def make(folder: Path) -> None:
        project = create_with_pictures(folder).with_git()
        project.repro("assemble")
        project.commit()

    return made_once(tmp_path_factory, "pictures", make)


@pytest.mark.heavy
@pytest.mark.parametrize("script", [LISTING, REMOVAL])
@pytest.mark.parametrize("window", WINDOWS)
def test_an_edit_in_any_window_stops_the_run_and_one_retry_succeeds(
    published_base: Project, tmp_path: Path, window: str, script: str
) -> None:
    project = published_base.copy(tmp_path / "project")
    assert project.repro("assemble") == []
    (project.folder / READING).unlink()
    command = ["dvc", "repro", "assemble"]
    done = run_with(project, tmp_path / "moment", WINDOWS[window], script, command)
    assert done.returncode != 0, done.stdout
    assert "changed meanwhile, run it again" in done.stderr
    assert "it named 0 ids and names 1 now" in done.stderr or "dark/1.png: removed" in done.stderr
    pending = [shard["shard"] for shard in project.manifest()["shards"] if shard.get("pending")]
    assert len(pending) == (script == LISTING)  # what was listed is withdrawn at once; a file may come back
    assert "partition" in project.repro("assemble")
    assert "dark/1.png" not in ids(project)
    assert sum(shard["retained"] for shard in project.manifest()["shards"]) == 119
    assert not any(shard.get("pending") for shard in project.manifest()["shards"])
    assert project.repro("assemble") == []
