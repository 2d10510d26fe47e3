"""Whom samples are of: read from folders and tables, placed and forgotten as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, Project
from PIL import Image

from benchmarks.subjects import cost, expected
from training.check import check
from training.data.evenness import Evenness, in_words, too_small
from training.data.subjects import read_subjects, subject_of_path
from training.drills.project_copy import begin
from training.errors import CheckError, ForgetListError, ParamsError, SourceError
from training.files import sha256_file
from training.params import check_params
from training.publish.events import Requested
from training.publish.history import read_history
from training.publish.withdraw import withdraw

Create = Callable[..., Project]

TABLE = "data/subjects/people.csv"
KEY = "SISA_PLACEMENT_KEY"


def write_table(project: Project, rows: dict[str, str], name: str = TABLE) -> None:
    lines = ["sample_id,subject", *(f"{sample_id},{subject}" for sample_id, subject in rows.items())]
    (project.folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture
def by_table(create: Create) -> Project:
    """Digits of a hundred people with ten samples each, 0 to 9 being person 0's; the other 442 are of nobody."""
    project = create("table", data__subjects=TABLE)
    write_table(project, {str(number): f"person {number // 10}" for number in range(1000)})
    return project


@pytest.fixture
def by_folder(create: Create) -> Project:
    """Cats and dogs of ann, bob and nobody, four pictures of each, and a test picture of each class."""
    project = create("folders", data__source="imagefolder", data__root="photos", data__subjects="folder")
    for label, name in enumerate(("cat", "dog")):
        for number in range(4):
            for place in (f"train/{name}/ann", f"train/{name}/bob/deep", f"train/{name}"):
                draw(project.folder / "photos" / place / f"{number}.png", (200 * label, 10 * number, len(place)))
        draw(project.folder / f"photos/test/{name}/0.png", (200 * label, 0, 0))
    return project


def draw(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def slots(project: Project) -> dict[str, tuple[int, int]]:
    """Shard and slice of every retained sample."""
    return {
        sample_id: (shard_id, slice_id)
        for shard_id in project.workspace.read_params().sisa.shards
        for sample_id, slice_id in zip(
            project.shard(shard_id).ids, project.shard(shard_id).slices.tolist(), strict=True
        )
    }


# What is read.


def test_a_subject_is_the_folder_below_the_class() -> None:
    assert [subject_of_path(name) for name in ("cat/ann/1.png", "cat/ann/2024/1.png", "cat/1.png")] == [
        "ann",
        "ann",
        "",
    ]


def test_a_table_is_read_with_or_without_a_byte_order_mark_and_may_have_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffsubject,note,sample_id\r\n"Ann, the first",x,1\r\n\r\nBöb,,2\r\n'.encode())
    assert read_subjects(path) == {"1": "Ann, the first", "2": "Böb"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected a first line 'sample_id,subject', found ''"),
        (b"sample_id;subject\n1;ann\n", "expected a first line 'sample_id,subject', found 'sample_id;subject'"),
        (b"sample_id,subject,subject\n1,ann,bob\n", "expected a first line 'sample_id,subject'"),
        (b"1,ann\n", "expected a first line 'sample_id,subject', found '1,ann'"),
        (b"sample_id,subject\n1,ann\n2\n", r"a.csv, line 3: expected 2 fields"),
        (b"sample_id,subject\n1,ann,the first\n", r"a.csv, line 2: expected 2 fields.*double quotes"),
        (b'sample_id,subject\n1,"ann\n', r"a.csv: not CSV \(unexpected end of data, after line 1\)"),
        (b"sample_id,subject\n1,\n", "line 2: no subject; leave out the line"),
        (b"sample_id,subject\n,ann\n", "line 2: no sample_id"),
        (b"sample_id,subject\n1,ann\n2,bob\n1,ann\n", "line 4: '1' is in line 2 already"),
        (b"sample_id,subject\n1, ann\n", "the subject ' ann' could not be written in a forget list"),
        (b"sample_id,subject\n1,ann #2\n", "the subject 'ann #2' could not be written in a forget list"),
        ("sample_id,subject\n1,café\n2,café\n".encode(), "are one name in other Unicode characters"),
        ("sample_id,subject\n1,café\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        read_subjects(tmp_path / "a.csv")


def test_a_table_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"data.subjects: .*a.csv is missing; put the table there"):
        read_subjects(tmp_path / "a.csv")
    with pytest.raises(SourceError, match=r"cannot be read \(Is a directory\)"):
        read_subjects(tmp_path)


def test_names_that_differ_in_case_alone_are_two_subjects_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("sample_id,subject\n1,Ann\n2,ann\n")
    assert read_subjects(tmp_path / "a.csv") == {"1": "Ann", "2": "ann"}
    assert "'Ann' and 'ann' are taken for different subjects" in caplog.text


@pytest.mark.parametrize(
    "subjects", ["people.csv", "data/people.csv", "data/subjects/people.txt", "data/subjects/a/b.csv"]
)
def test_a_table_lies_where_dvc_looks(create: Create, subjects: str) -> None:
    document = create("x").workspace.read_params().model_dump(mode="json")
    document["data"]["subjects"] = subjects
    with pytest.raises(ParamsError, match=r"subjects must be none, folder or data/subjects/NAME.csv, found"):
        check_params(document, "params.yaml")


def test_folders_name_subjects_in_an_imagefolder_alone(create: Create) -> None:
    project = create("x")
    project.change(data__subjects="folder")
    with pytest.raises(
        ParamsError, match=r"subjects: folder is for an imagefolder; digits takes data/subjects/NAME.csv"
    ):
        project.workspace.read_params()


# What is placed.


def test_a_table_places_every_person_in_one_slot_and_counts_who_is_of_nobody(
    by_table: Project, create: Create, capsys: pytest.CaptureFixture[str]
) -> None:
    by_table.stages("partition")
    placed = slots(by_table)
    assert len(placed) == 1442
    for person in range(100):
        assert len({placed[str(number)] for number in range(10 * person, 10 * person + 10)}) == 1
    assert len({placed[str(10 * person)] for person in range(100)}) == 9  # 3 × 3, and a hundred people in them
    out = capsys.readouterr().out
    assert "subjects: 100, the largest of 10 samples" in out
    assert "442 samples without a subject, placed by their own ids" in out

    by_id = create("by-id")
    by_id.stages("partition")
    without = {str(number) for number in range(1000, 1442)}
    assert {name: slot for name, slot in slots(by_id).items() if name in without} == {
        name: placed[name] for name in without
    }


def test_folders_place_a_person_of_several_classes_in_one_slot(by_folder: Project) -> None:
    by_folder.stages("partition")
    placed = slots(by_folder)
    assert len(placed) == 24
    for person in ("ann", "bob/deep"):
        assert len({placed[f"{name}/{person}/{number}.png"] for name in ("cat", "dog") for number in range(4)}) == 1


def test_folders_that_are_one_name_in_other_unicode_characters_are_refused(by_folder: Project) -> None:
    draw(by_folder.folder / "photos/train/cat/café/1.png", (1, 2, 3))
    draw(by_folder.folder / "photos/train/dog/café/1.png", (1, 2, 3))
    with pytest.raises(SourceError, match="are one name in other Unicode characters; spell it in one way"):
        by_folder.stages("partition")


def test_ids_that_cannot_exist_are_named_and_samples_that_are_gone_are_counted(
    by_table: Project, by_folder: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(by_table, {"1": "ann", "1442": "ann", "007": "bob"})
    with pytest.raises(SourceError) as caught:
        by_table.stages("partition")
    assert "'1442' names no training sample: out of range: ids are 0 to 1441" in str(caught.value)
    assert "'007' names no training sample: an id is a number written plainly" in str(caught.value)
    assert not by_table.workspace.partition_file.exists()

    by_folder.change(data__subjects=TABLE)
    write_table(by_folder, {"cat/0.png": "cai", "dog/99.png": "dan"})
    by_folder.stages("partition")
    assert "people.csv: 1 lines skipped, their samples are not in the source" in capsys.readouterr().out
    write_table(by_folder, {"cat/98.png": "cai", "dog/99.png": "dan"})
    with pytest.raises(SourceError, match="names no sample that is in the source; is it the table of another one"):
        by_folder.stages("partition")


def test_a_table_that_dvc_ignores_is_refused(by_table: Project) -> None:
    (by_table.folder / ".dvcignore").write_text("*.csv\n")
    with pytest.raises(SourceError, match=r"DVC ignores 1 of 1 in .*data/subjects"):
        by_table.stages("partition")
    with pytest.raises(CheckError, match=r"DVC ignores 1 of 1 in .*data/subjects"):
        check(by_table.workspace)


def test_samples_placed_otherwise_are_not_scheduled(by_table: Project) -> None:
    by_table.stages("partition")
    by_table.change(data__subjects="none")
    with pytest.raises(Exception, match=r"partition.json was written with other parameters"):
        by_table.stages("schedule")


# What is forgotten.


def test_a_subject_is_forgotten_as_a_whole_in_one_shard(by_table: Project, capsys: pytest.CaptureFixture[str]) -> None:
    by_table.stages("partition")
    before, files = slots(by_table), by_table.contents("data/shards")
    by_table.forget("subject:person 7", "75", "subject: person 8  # a space after the colon is no part of the name")
    by_table.stages("partition")
    after = slots(by_table)
    assert before.keys() - after.keys() == {str(number) for number in range(70, 90)}
    assert all(before[name] == slot for name, slot in after.items())
    changed = {name for name, content in by_table.contents("data/shards").items() if files[name] != content}
    assert changed == {f"data/shards/shard-{before[name][0]}.npy" for name in ("70", "80")}
    out = capsys.readouterr().out
    assert "forgotten: 1 ids and 2 subjects listed, 0 of them already gone from the source" in out
    assert "they name 20 samples" in out


def test_forgetting_a_subject_equals_never_having_seen_one_bit_for_bit(by_table: Project, create: Create) -> None:
    by_table.stages(*MODELS)
    by_table.forget("subject:person 7")
    by_table.stages(*MODELS)
    scratch = create("scratch", data__subjects=TABLE)
    write_table(scratch, {str(number): f"person {number // 10}" for number in range(1000)})
    scratch.forget("subject:person 7")
    scratch.stages(*MODELS)
    assert by_table.models() == scratch.models()


def test_a_person_in_folders_is_forgotten_in_every_class(by_folder: Project) -> None:
    by_folder.forget("subject:ann")
    by_folder.stages("partition")
    assert len(slots(by_folder)) == 16
    assert not any("/ann/" in name for name in slots(by_folder))


@pytest.mark.parametrize("name", ["Bob", "bobb", "bo b"])
def test_an_unknown_subject_stops_the_run_and_near_ones_are_named(by_folder: Project, name: str) -> None:
    by_folder.stages("partition")
    before = by_folder.contents("data")
    by_folder.forget(f"subject:{name}", "subject:bob")
    with pytest.raises(ForgetListError) as caught:
        by_folder.stages("partition")
    assert f"forget/requests.txt:1: 'subject:{name}': there is no such subject" in str(caught.value)
    assert "did you mean 'subject:bob'?" in str(caught.value)
    assert ":2: " not in str(caught.value)
    assert by_folder.contents("data") == before


def test_a_person_who_was_forgotten_may_stay_on_the_list_when_the_folders_are_removed(
    by_folder: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    by_folder.forget("subject:ann")
    by_folder.stages("partition")
    for name in ("cat", "dog"):
        shutil.rmtree(by_folder.folder / f"photos/train/{name}/ann")
    by_folder.forget("subject:ann", "dog/0.png")
    by_folder.stages("partition")
    assert "already gone: forget/requests.txt:1: 'subject:ann'" in capsys.readouterr().out
    assert len(slots(by_folder)) == 15


def test_where_no_subject_is_known_none_can_be_forgotten(create: Create) -> None:
    project = create("x")
    project.forget("subject:ann")
    with pytest.raises(
        ForgetListError, match=r"'subject:ann': no subject is known \(data.subjects is none, or names nobody\)"
    ):
        project.stages("partition")


def test_a_subject_whose_samples_are_gone_is_known_while_the_table_names_it(
    by_folder: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    by_folder.change(data__subjects=TABLE)
    write_table(by_folder, {"cat/0.png": "cai", "dog/99.png": "dan"})
    by_folder.forget("subject:dan")
    by_folder.stages("partition")
    assert "already gone: forget/requests.txt:1: 'subject:dan'" in capsys.readouterr().out


def test_a_class_that_reads_as_a_subject_is_refused(by_folder: Project) -> None:
    draw(by_folder.folder / "photos/train/subject:x/1.png", (1, 2, 3))
    with pytest.raises(SourceError, match=r"'subject:x/1.png' could not be written in a forget list"):
        by_folder.stages("partition")


# What is withdrawn, before the source is opened.


def pending(project: Project) -> list[int]:
    return [shard["shard"] for shard in project.manifest()["shards"] if shard.get("pending")]


def test_a_subject_is_withdrawn_at_once_from_the_one_shard_that_saw_it(by_table: Project) -> None:
    by_table.stages(*MODELS)
    shard_id = slots(by_table)["70"][0]
    by_table.forget("subject:person 7", "99999")  # the second is a typo, which stops partition and not the withdrawal
    with pytest.raises(ForgetListError, match="99999"):
        by_table.stages("partition")
    assert pending(by_table) == [shard_id]
    requested = [entry for entry in read_history(by_table.workspace) if isinstance(entry, Requested)]
    assert [(entry.request, entry.samples) for entry in requested] == [("forget/requests.txt", 10)]  # the name is none
    by_table.forget("subject:person 7")
    by_table.stages(*MODELS)
    assert pending(by_table) == []
    assert sum(isinstance(entry, Requested) for entry in read_history(by_table.workspace)) == 1


@pytest.mark.parametrize("trouble", ["a bad line in the table", "no source"])
def test_whatever_else_is_wrong_a_subject_is_withdrawn(by_table: Project, trouble: str) -> None:
    by_table.stages(*MODELS)
    by_table.forget("subject:person 7")
    if trouble == "no source":
        by_table.change(data__source="imagefolder", data__root="nowhere")
    else:
        (by_table.folder / TABLE).write_text((by_table.folder / TABLE).read_text() + "1441,\n")
    with pytest.raises(SourceError):
        by_table.stages("partition")
    assert pending(by_table) == [slots(by_table)["70"][0]]


def test_a_person_whose_folders_were_removed_before_the_request_is_withdrawn_all_the_same(by_folder: Project) -> None:
    by_folder.stages(*MODELS)
    shard_id = slots(by_folder)["cat/ann/0.png"][0]
    for name in ("cat", "dog"):
        shutil.rmtree(by_folder.folder / f"photos/train/{name}/ann")
    by_folder.forget("subject:ann")
    withdraw(by_folder.workspace)
    assert pending(by_folder) == [shard_id]


def test_what_is_not_known_of_subjects_is_said_and_ids_are_withdrawn(
    by_table: Project, caplog: pytest.LogCaptureFixture
) -> None:
    by_table.stages(*MODELS)
    by_table.forget("subject:person 7", "1400")
    (by_table.folder / TABLE).unlink()
    withdraw(by_table.workspace)
    assert "people.csv is missing" in caplog.text
    assert "no subject can be withdrawn" in caplog.text
    assert pending(by_table) == [slots(by_table)["1400"][0]]


# By a secret key.


def test_a_key_is_declared_in_the_parameters_and_published_by_its_digest(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = create("keyed")
    project.stages("partition")
    before, files = slots(project), project.contents("data")
    monkeypatch.setenv(KEY, "k" * 32)
    with pytest.raises(CheckError, match="samples are placed by no key") as caught:
        check(project.workspace)
    with pytest.raises(ParamsError, match="samples are placed by no key"):
        project.stages("partition")
    assert project.contents("data") == files

    digest = str(caught.value).split("`placement_key_digest: ")[1].split("`")[0]
    project.change(data__placement_key_digest=digest)
    check(project.workspace)
    project.stages(*MODELS)
    assert slots(project).keys() == before.keys()
    assert slots(project) != before
    assert project.manifest()["placement_key_digest"] == digest
    assert json.loads(project.workspace.partition_file.read_text())["placement"]["key_digest"] == digest
    assert not any(b"k" * 32 in content for content in project.contents("data", "models", ".sisa").values())

    files = project.contents("data", "models")
    monkeypatch.delenv(KEY)
    for stage in ("partition", "schedule", "train"):
        with pytest.raises(ParamsError, match=r"by a secret key .* is not set"):
            project.stages(stage)
    assert project.contents("data", "models") == files


def test_without_a_key_a_release_is_spelt_as_before(trained: Project) -> None:
    assert "placement_key_digest" not in trained.manifest()


# How even it is.


def test_the_default_profile_is_large_enough(create: Create, caplog: pytest.LogCaptureFixture) -> None:
    project = create("digits", sisa__shards=[0, 1, 2, 3, 4], sisa__slices=5)
    project.stages("partition")
    assert not caplog.records


def test_38_pictures_on_5_times_5_slices_are_too_few(create: Create, caplog: pytest.LogCaptureFixture) -> None:
    project = create("few", data__source="imagefolder", data__root="photos")
    project.change(sisa__shards=[0, 1, 2, 3, 4], sisa__slices=5)
    for split, count in (("train", 19), ("test", 1)):
        for name in ("cat", "dog"):
            for number in range(count):
                draw(project.folder / f"photos/{split}/{name}/{number}.png", (10 * number, 0, 0))
    project.stages("partition", "features", "schedule")
    assert "times a shard has fewer than 10 samples of a class" in caplog.text
    assert "25 of 25 slices have fewer samples than a batch of 32" in caplog.text


def even(slices: list[list[int]], classes: list[list[int]], **others: int) -> Evenness:
    about = {"subjects": 0, "without": 0, "largest": 0, "largest_shard": 0, **others}
    return Evenness(slices=np.array(slices), classes=np.array(classes), names=("cat", "dog"), **about)


def test_what_is_printed_names_the_smallest_and_the_largest() -> None:
    counted = even([[30, 30], [20, 20]], [[50, 10], [15, 25]], subjects=3, without=5, largest=12, largest_shard=1)
    assert in_words(counted) == [
        "smallest shard: 40 samples (shard 1), largest: 60 (shard 0)",
        "fewest of a class in a shard: 10 of 'dog' (shard 0), 15 of 'cat' (shard 1)",
        "subjects: 3, the largest of 12 samples, 30.0% of its shard (shard 1); 5 samples without a subject, placed by "
        "their own ids",
    ]
    assert too_small(counted) == []


def test_what_is_too_small_is_named() -> None:
    # Shard 0: a slice of 19. Shard 1: 9 dogs. Shard 2: no dog. Shard 3: nothing at all, and it counts once.
    counted = even([[19, 31], [20, 20], [20, 20], [0, 0]], [[40, 10], [31, 9], [40, 0], [0, 0]])
    assert too_small(counted) == [
        "1 of 4 shards have no samples and abstain (3)",
        "1 times a shard has no sample of a class, so it never answers with it ('dog' in shard 2)",
        "1 times a shard has fewer than 10 samples of a class (9 of 'dog' in shard 1); use fewer shards (sisa.shards)",
    ]


# Beside the pipeline.


def test_check_names_a_table_that_cannot_be_used_and_a_folder_that_is_missing(by_table: Project) -> None:
    check(by_table.workspace)
    (by_table.folder / TABLE).write_text("sample_id,subject\n1,\n")
    with pytest.raises(CheckError, match="line 2: no subject"):
        check(by_table.workspace)
    (by_table.folder / TABLE).unlink()
    with pytest.raises(CheckError, match=r"people.csv is missing"):
        check(by_table.workspace)
    by_table.change(data__subjects="none")
    (by_table.folder / "data/subjects/.gitkeep").unlink()
    (by_table.folder / "data/subjects").rmdir()
    with pytest.raises(CheckError, match=r"data/subjects is not a folder; make it"):
        check(by_table.workspace)


def test_a_drill_takes_the_table_along(by_table: Project) -> None:
    home = by_table.folder / ".drills/x"
    begin(by_table.workspace, home, ("unlearned",), {}, fresh=False)
    assert sha256_file(home / "unlearned" / TABLE) == sha256_file(by_table.folder / TABLE)


def test_the_measured_cost_of_forgetting_counts_unions_of_slices() -> None:
    # Two shards of two slices of 10. Without a sample of the first slice of shard 0 the unions are 9 and 19 there, 10
    # and 20 in the other shard. Without one of the second slice of shard 1 10 and 19, of which 19 is retrained.
    sizes = np.full((2, 2), 10)
    assert cost(np.array([[0, 0]]), sizes) == (28 / 58, 1)
    assert cost(np.array([[0, 0], [1, 1]]), sizes) == (47 / 57, 2)


def test_the_expected_cost_is_that_of_the_design() -> None:
    # One shard of two slices: a name lies in either half the time, and costs (1 + 2) / 3 or 2 / 3.
    assert expected(1, 1, 2) == pytest.approx((1 + 2 / 3) / 2)
    assert expected(1, 5, 10) == pytest.approx(0.14)
    assert expected(20, 5, 10) == pytest.approx(0.907, abs=0.0005)


@pytest.mark.pipeline
def test_a_changed_table_places_its_samples_anew(reproduced: Project) -> None:
    write_table(reproduced, {str(number): f"person {number // 10}" for number in range(1000)})
    reproduced.change(data__subjects=TABLE)
    assert reproduced.repro("partition") == ["partition"]
    assert reproduced.repro("partition") == []
    before = slots(reproduced)
    write_table(reproduced, {**{str(number): f"person {number // 10}" for number in range(1000)}, "0": "person 1"})
    assert reproduced.repro("partition") == ["partition"]
    after = slots(reproduced)
    assert after["0"] == before["10"]
    assert {name: slot for name, slot in after.items() if name != "0"} == {
        name: slot for name, slot in before.items() if name != "0"
    }
