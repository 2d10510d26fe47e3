"""`sisa purge`: before it old state lies in many places, after it in none that can be reached."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import MODELS, REPOSITORY, Project, made_once
from test_prints import photograph

from training.data.prints import PRINTS
from training.data.store import load_shard
from training.erasure.purge import delete_pictures, forgotten_in_source, purge
from training.erasure.scan import Scanner, files_below
from training.erasure.superseded import Superseded, superseded
from training.errors import PurgeError
from training.forgetting.add import add
from training.publish.history import read_history
from training.publish.memory import open_memory
from training.publish.opening import published_now
from training.workspace import Workspace

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="session")
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with a project that forgot a sample, and ``before``: its copy of before that."""

    def make(folder: Path) -> None:
        project = Project.create(folder / "project")
        project.stages(*MODELS)
        project.copy(folder / "before")
        add(project.workspace, [project.victim(1, 1)])
        project.stages(*MODELS)

    return made_once(tmp_path_factory, "forgotten", make)


@pytest.fixture
def before(forgotten: Project) -> Project:
    return Project(forgotten.folder / "before")


@pytest.fixture
def wanted(forgotten: Project) -> Superseded:
    workspace = Workspace(forgotten.folder / "project")
    entries = read_history(workspace)
    return superseded(entries, published_now(workspace), open_memory(workspace, entries))


def found_in(wanted: Superseded, folder: Path) -> dict[str, str]:
    scanner = Scanner(wanted)
    scanner.scan(files_below(folder))
    assert scanner.unread == []
    return {trace.path.removeprefix(f"{folder}/"): trace.what for trace in scanner.traces}


def test_only_the_model_that_was_retrained_is_superseded_and_the_slices_from_its_first_stale_one_on(
    before: Project, forgotten: Project, wanted: Superseded
) -> None:
    assert wanted.models == {before.manifest()["shards"][1]["sha256"]}
    chains = [
        json.loads((folder / "models/plan/shard-1.json").read_text())["keys"]
        for folder in (before.folder, forgotten.folder / "project")
    ]
    assert chains[0][0] == chains[1][0]
    assert wanted.keys == set(chains[0][1:])  # the sample was in slice 1 of 3


def test_a_scan_finds_old_models_checkpoints_and_shard_files_and_nothing_of_today(
    before: Project, forgotten: Project, wanted: Superseded
) -> None:
    assert found_in(wanted, forgotten.folder / "project") == {}
    kinds = found_in(wanted, before.folder)
    assert kinds["data/shards/shard-1.npy"] == "a shard file with 1 forgotten samples"
    assert sum("checkpoint" in what for what in kinds.values()) == 2
    assert sum("model" in what and path.endswith(".onnx") for path, what in kinds.items()) == 2  # export and published
    assert len(kinds) == 5


def test_archives_are_looked_into_also_in_one_another(before: Project, wanted: Superseded, tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.write(before.workspace.shard_file(1), "arrays/a.npy")
    with tarfile.open(tmp_path / "bento.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("src/arrays.npz")
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))
        model = next(before.workspace.onnx_folder.glob("shard-1-*"))
        tar.add(model, "src/models/model.bin")
    assert found_in(wanted, tmp_path) == {
        "bento.tar.gz!src/arrays.npz!arrays/a.npy": "a shard file with 1 forgotten samples",
        "bento.tar.gz!src/models/model.bin": "a model that was published before",
    }


def test_a_model_that_was_exported_again_is_known_by_its_key(
    before: Project, wanted: Superseded, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(next(before.workspace.onnx_folder.glob("shard-1-*")))
    model.doc_string = "another export"
    onnx.save(model, tmp_path / "copy.onnx")
    assert found_in(wanted, tmp_path) == {"copy.onnx": "a model with the key of an earlier generation"}


def test_an_archive_that_cannot_be_read_is_named_and_not_passed_over(wanted: Superseded, tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4" + b"\0" * 100)
    scanner = Scanner(wanted)
    scanner.scan(files_below(tmp_path))
    assert scanner.traces == []
    assert len(scanner.unread) == 1
    assert "cut.zip" in scanner.unread[0]


def test_what_is_packed_alone_is_looked_into(before: Project, wanted: Superseded, tmp_path: Path) -> None:
    model = next(before.workspace.onnx_folder.glob("shard-1-*")).read_bytes()
    for name, pack in (("a.gz", gzip.compress), ("b.bz2", bz2.compress), ("c.xz", lzma.compress)):
        (tmp_path / name).write_bytes(pack(model))
    assert set(found_in(wanted, tmp_path)) == {"a.gz!", "b.bz2!", "c.xz!"}


@pytest.mark.parametrize("kind", ["zip", "tgz", "gz"])
def test_an_archive_that_is_damaged_further_in_is_named(kind: str, wanted: Superseded, tmp_path: Path) -> None:
    path, noise = tmp_path / f"damaged.{kind}", np.random.default_rng(0).bytes(100_000)
    (tmp_path / "noise").write_bytes(noise)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / "noise", "noise")
    elif kind == "tgz":
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "noise", "noise")
    else:
        path.write_bytes(gzip.compress(noise))
    content = bytearray(path.read_bytes())
    content[40_000:40_100] = bytes(100)
    path.write_bytes(content if kind == "zip" else content[:60_000])
    scanner = Scanner(wanted)
    scanner.scan([path])
    assert len(scanner.unread) == 1
    assert f"damaged.{kind}" in scanner.unread[0]


def test_a_name_that_is_no_utf8_can_be_written_down(before: Project, wanted: Superseded, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.onnx"))
    path.write_bytes(next(before.workspace.onnx_folder.glob("shard-1-*")).read_bytes())
    scanner = Scanner(wanted)
    scanner.scan(files_below(tmp_path))
    assert scanner.traces[0].path.encode().endswith(rb"m\xff.onnx")


def test_a_file_that_goes_meanwhile_stops_no_scan(wanted: Superseded, tmp_path: Path) -> None:
    scanner = Scanner(wanted)
    scanner.scan([tmp_path / "gone.onnx"])
    assert (scanner.traces, scanner.unread) == ([], [])


def test_a_test_picture_of_the_same_number_is_no_trace_of_a_forgotten_one(trained: Project) -> None:
    """The numbers of the digits' test split are others than those of its training split."""
    trained_on = trained.shard(1).ids[0]
    add(trained.workspace, [trained_on])
    trained.stages(*MODELS)
    entries = read_history(trained.workspace)
    wanted = superseded(entries, published_now(trained.workspace), open_memory(trained.workspace, entries))
    assert wanted.memory is not None
    test = load_shard(trained.workspace.test_file)
    assert wanted.among([trained_on] * len(test), test.prints) == 0
    assert wanted.among([trained_on], np.zeros(1, PRINTS)) == 1  # a file that knows no prints


def pictures(project: Project) -> None:
    for number in range(24):
        split, name = "test" if number % 4 == 0 else "train", ("cat", "dog")[number % 2]
        path = project.folder / f"pictures/{split}/{name}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photograph(top=10 * number, left=20 * number)).save(path)


def test_a_forgotten_picture_is_known_by_its_file_and_by_its_pixels(
    create: Callable[..., Project], tmp_path: Path
) -> None:
    project = create("project", data__source="imagefolder", data__root="pictures", sisa__slices=1)
    pictures(project)
    project.stages("partition")
    add(project.workspace, ["cat/2.png"])
    project.stages("partition")
    workspace = project.workspace
    entries = read_history(workspace)
    memory = open_memory(workspace, entries)
    wanted = superseded(entries, None, memory)
    copies = tmp_path / "copies"
    copies.mkdir()
    shutil.copy(project.folder / "pictures/train/cat/2.png", copies / "x.bin")
    PIL.Image.open(project.folder / "pictures/train/cat/2.png").save(copies / "same.bmp")
    shutil.copy(project.folder / "pictures/train/cat/6.png", copies / "another.png")
    assert found_in(wanted, copies) == {
        "x.bin": "the file of a forgotten picture",
        "same.bmp": "the pixels of a forgotten picture",
    }
    assert forgotten_in_source(workspace, workspace.read_params(), memory) == ["cat/2.png"]


def test_before_it_old_state_lies_everywhere_and_after_it_nowhere_within_reach(
    reproduced: Project, tmp_path: Path
) -> None:
    project, store = reproduced, tmp_path / "store"
    project.run("dvc", "remote", "add", "--default", "store", str(store))
    project.commit()
    project.run("dvc", "push", "--run-cache")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "--quiet", str(project.folder), str(clone.folder))
    project.run("dvc", "exp", "run", "--temp", "-S", "sisa.aggregation=vote")
    project.run("dvc", "exp", "run", "--queue", "-S", "training.learning_rate=0.04")
    shutil.copytree(project.workspace.shards_folder, project.folder / ".drills/forget/unlearned/data/shards")
    shutil.copy(REPOSITORY / "bentofile.yaml", project.folder)
    shutil.copy(REPOSITORY / "README.md", project.folder)
    home = {"BENTOML_HOME": str(project.folder / ".bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    bentoml = ["env", *(f"{name}={value}" for name, value in home.items()), sys.executable, "-m", "bentoml", "build"]
    project.run(*bentoml)

    add(project.workspace, [project.victim(1, 1)])
    with pytest.raises(PurgeError, match="not carried out yet"):
        purge(project.workspace)
    project.repro()
    with pytest.raises(PurgeError, match=r"dvc\.lock is not committed"):
        purge(project.workspace)
    project.commit()

    looked = purge(project.workspace, dry_run=True)
    places = {place.place: place.found for place in looked.places if place.found}
    assert places.keys() >= {
        *("experiments", "queue", "run-cache", "DVC's cache", "drills", "bentos"),
        *("remote store", "remote store, run-cache"),
    }
    assert any(".drills" in trace.path for trace in looked.traces)
    assert any(str(store) in trace.path for trace in looked.traces)
    assert not looked.complete

    done = project.run("sisa", "purge", check=False)
    assert done.returncode == 0, done.stdout
    assert "nothing is left within reach" in done.stdout
    after = purge(project.workspace, dry_run=True)
    assert (after.found, after.traces) == (0, ())
    assert after.source == 1  # the digits are one archive, from which nothing can be taken out
    last = json.loads(project.workspace.ledger_file.read_text().splitlines()[-1])
    assert (last["event"], last["left"], last["removed"] > 20) == ("purged", 0, True)

    # What is served is still there, in the project and for whoever pulls it.
    assert project.repro() == []
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "purged")
    clone.run("git", "pull", "--quiet")
    clone.run("dvc", "pull")
    out = clone.run("sisa", "publish").stdout
    assert f"generation {project.manifest()['generation']}" in out
    assert clone.manifest()["shards"] == project.manifest()["shards"]


def test_with_source_forgotten_pictures_of_an_image_folder_are_deleted(create: Callable[..., Project]) -> None:
    project = create("project", data__source="imagefolder", data__root="pictures", sisa__slices=1)
    pictures(project)
    project.with_git().repro()
    add(project.workspace, ["cat/2.png"])
    stray = project.folder / "pictures/old/a copy.png"  # in the source's folder, and none of its samples
    stray.parent.mkdir()
    shutil.copy(project.folder / "pictures/train/cat/2.png", stray)
    project.repro()
    project.commit()
    found = purge(project.workspace)
    assert ([trace.path for trace in found.traces], found.source) == ([str(stray)], 1)
    assert (project.folder / "pictures/train/cat/2.png").is_file()
    found = purge(project.workspace, source=True)
    assert found.source == 0
    assert not (project.folder / "pictures/train/cat/2.png").exists()
    assert (project.folder / "pictures/train/cat/6.png").is_file()
    project.repro()  # the picture is gone, as it was asked for
    assert project.run("sisa", "status").returncode == 0


def test_pictures_in_an_archive_cannot_be_deleted_and_that_is_said(trained: Project) -> None:
    with pytest.raises(PurgeError, match="digits keeps all samples in archives"):
        delete_pictures(trained.workspace, trained.workspace.read_params(), ["3"])
