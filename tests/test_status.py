"""`sisa status`: what is served, what is open, and whether the one reflects the other."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Project
from test_command import LOADED
from test_reading import create_with_pictures

from training.data.requests import Request, write_request
from training.errors import LedgerError, MemoryLostError
from training.forgetting.exposure import exposure, exposure_in_words
from training.forgetting.status import Status, in_words, read_status
from training.publish.withdraw import withdraw

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def status(project: Project, *, full: bool = False) -> Status:
    return read_status(project.workspace, datetime.now(UTC), full=full)


def test_after_a_run_everything_is_served_as_it_is_asked_for(trained: Project) -> None:
    found = status(trained, full=True)
    assert found.as_asked
    assert found.served is not None
    assert (found.served.generation, found.served.turnout.answered, found.served.needed) == (1, 3, 2)
    assert (found.open, found.not_entered, found.differs, found.served.away) == ((), (), (), ())


def test_before_the_first_run_nothing_is_published_and_nothing_is_written(trained: Project, tmp_path: Path) -> None:
    project = Project.create(tmp_path / "new")
    project.forget("12")
    found = status(project)
    assert found.served is None
    assert not found.as_asked
    assert [(each.request, each.samples) for each in found.not_entered] == [("forget/requests.txt", 1)]
    assert not (project.folder / ".sisa").exists()


def test_a_request_is_followed_from_the_list_to_its_publication(trained: Project) -> None:
    trained.change(publish={"readmit": "together"})
    trained.forget(trained.victim(1, 1), trained.victim(1, 2))
    before = trained.contents(".sisa", "models")
    found = status(trained)
    assert [(each.request, each.samples) for each in found.not_entered] == [("forget/requests.txt", 2)]
    assert found.differs == ("forget/requests.txt: it named 0 ids and names 2 now",)
    assert trained.contents(".sisa", "models") == before

    withdraw(trained.workspace)
    found = status(trained)
    (request,) = found.open
    assert (request.request, request.samples, request.step, request.shards) == (
        *("forget/requests.txt", 2, "withdrawn"),
        (1,),
    )
    assert found.served is not None
    assert [(each.shard, each.since, each.earlier_slice) for each in found.served.away] == [(1, request.since, None)]
    assert (found.served.turnout.answered, found.served.quorum, found.not_entered) == (2, True, ())

    trained.stages("partition", "schedule")
    assert status(trained).differs == ("what is published was made for other forget lists than the last partition's",)
    assert [each.step for each in status(trained).open] == ["withdrawn"]
    trained.stages("train")
    assert [each.step for each in status(trained).open] == ["retrained"]
    trained.stages("assemble")
    assert status(trained).as_asked


def test_a_private_request_is_named_with_its_reference(trained: Project) -> None:
    fields = {"time": "2026-11-01T00:00:00+00:00", "actor": "ada", "reference": "ticket 7", "approver": "bob"}
    samples = (trained.victim(0, 2),)
    write_request(trained.workspace, Request.model_validate({"name": "r-1", "samples": samples, **fields}))
    (missing,) = status(trained).not_entered
    assert (missing.request, missing.samples, missing.since) == ("r-1", 1, datetime(2026, 11, 1, tzinfo=UTC))
    withdraw(trained.workspace)
    (request,) = status(trained).open
    assert (request.request, request.reference, request.approver, request.shards) == ("r-1", "ticket 7", "bob", (0,))


def test_a_request_is_overdue_after_the_deadline_and_the_oldest_comes_first(trained: Project) -> None:
    trained.change(requests={"deadline_days": 2})
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    trained.folder.joinpath("forget/more.txt").write_text(trained.victim(2, 1))
    withdraw(trained.workspace)
    asked = status(trained).open[0].since
    for age, overdue in ((timedelta(days=2), 0), (timedelta(days=2, minutes=5), 2)):
        found = read_status(trained.workspace, asked + age)
        assert [each.request for each in found.open] == ["forget/requests.txt", "forget/more.txt"]
        assert found.overdue == overdue
        assert found.open[0].age_seconds == age.total_seconds()


def test_monitored_lists_are_not_requests(trained: Project) -> None:
    trained.change(forget__apply=False)
    trained.forget(trained.victim(1, 1))
    trained.stages("partition", "schedule", "train", "assemble")
    assert status(trained).as_asked


def test_too_few_shards_that_answer_are_told(trained: Project) -> None:
    trained.change(serve={"quorum": 0.9})
    trained.forget(trained.victim(1, 0))  # its first slice saw it: there is nothing to fall back to
    withdraw(trained.workspace)
    found = status(trained).served
    assert found is not None
    assert (found.turnout.answered, found.needed, found.quorum) == (2, 3, False)


def test_an_old_manifest_with_a_withdrawn_model_is_told(trained: Project) -> None:
    old = trained.workspace.manifest_file.read_bytes()
    trained.forget(trained.victim(1, 1))
    trained.stages("partition", "schedule", "train", "assemble")
    trained.workspace.manifest_file.write_bytes(old)
    assert any("withdrawn is published" in sentence for sentence in status(trained).differs)


def test_a_picture_that_was_added_or_changed_is_told(tmp_path: Path) -> None:
    project = create_with_pictures(tmp_path / "pictures")
    project.stages("partition", "schedule", "train", "assemble")
    assert status(project).as_asked
    assert status(project, full=True).as_asked
    folder = project.folder / "pictures/train/dark"
    shutil.copy(folder / "1.png", folder / "more.png")
    assert [sentence.rpartition("/")[2] for sentence in status(project).differs] == ["more.png: added"]
    (folder / "more.png").unlink()
    shutil.copy(folder / "1.png", folder / "2.png")
    assert [sentence.rpartition("/")[2] for sentence in status(project).differs] == ["2.png: another content"]


def test_a_service_that_has_not_confirmed_what_was_withdrawn_is_told(trained: Project) -> None:
    trained.change(publish={"services": ["http://localhost:9"]})
    assert status(trained).as_asked  # nothing was withdrawn that it could answer with
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    assert status(trained).unconfirmed == ("http://localhost:9",)


def test_models_of_a_run_that_was_stopped_are_told(trained: Project) -> None:
    trained.change(training__momentum=0.5)
    trained.stages("partition", "schedule")
    assert status(trained).differs == tuple(
        f"shard {shard}: what is published is not what was planned last" for shard in range(3)
    )


def test_a_partition_after_which_nothing_was_planned_is_told_by_the_number_of_samples_or_by_reading_all(
    trained: Project,
) -> None:
    trained.change(poison__samples=5)  # as many samples, five of them others
    trained.stages("partition")
    assert status(trained).as_asked
    assert not status(trained, full=True).as_asked
    assert "its samples have changed since training was planned" in status(trained, full=True).differs[0]
    trained.forget(trained.victim(1, 1))
    trained.stages("partition")
    shard = "shard 2: its samples have changed since training was planned"
    assert shard not in status(trained).differs


@pytest.mark.parametrize("lost", ["secret", "suppressed.jsonl"])
def test_a_lost_memory_is_an_error(trained: Project, lost: str) -> None:
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    (trained.workspace.memory_folder / lost).unlink()
    with pytest.raises(MemoryLostError, match="restore"):
        status(trained)
    trained.workspace.ledger_file.write_text("{}\n")
    with pytest.raises(LedgerError):
        status(trained)


def test_a_missing_partition_and_an_unreadable_list_are_told(trained: Project) -> None:
    (trained.folder / "forget/.hidden.txt").write_text("1\n")
    assert any(".hidden.txt would not be read" in sentence for sentence in status(trained).differs)
    trained.workspace.partition_file.unlink()
    assert any("partition.json is missing" in sentence for sentence in status(trained).differs)


def test_the_command_says_by_its_exit_status_whether_everything_is_as_asked(trained: Project) -> None:
    done = trained.run("sisa", "status")
    assert done.stdout.startswith("Generation 1: 3 of 3 shards answer, at least 2 must.\n")
    assert done.stdout.endswith("Everything is served as it is asked for.\n")
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    done = trained.run("sisa", "status", check=False)
    assert done.returncode == 3
    assert "Shard 1: pending for 0 min.\n" in done.stdout
    assert "Open: 1, overdue after 30 days: 0.\n" in done.stdout
    done = trained.run("sisa", "status", "--json", check=False)
    assert done.returncode == 3
    assert [each["shards"] for each in json.loads(done.stdout)["open"]] == [[1]]
    shutil.rmtree(trained.folder / ".sisa")
    done = trained.run("sisa", "status", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: .sisa/secret is missing")


def test_status_waits_for_no_library_that_is_slow_to_load(trained: Project) -> None:
    out = trained.run(sys.executable, "-c", LOADED.format(words="'status'")).stdout
    assert not set(out.splitlines()[-1].split()) & {
        "torch",
        "onnxruntime",
        "onnx",
        "sklearn",
        "scipy",
        "dvc",
        "rich.table",
    }


def test_exposure_is_how_long_shards_are_away_and_the_accuracy_of_the_others(trained: Project) -> None:
    header = "shards,mean,mean_lowest,mean_highest,vote,vote_lowest,vote_highest\n"
    trained.workspace.report("shard_count.csv").write_text(
        header + "1,.5,0,1,.4,0,1\n2,.625,0,1,.5,0,1\n3,.75,0,1,.7,0,1\n"
    )
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    served = status(trained).served
    assert served is not None
    assert served.away[0].since is not None
    found = exposure(trained.workspace, served, served.away[0].since + timedelta(days=3, hours=4, minutes=5))
    assert found.away_seconds == {1: 3 * 86400 + 4 * 3600 + 300}
    assert (found.answered, found.of, found.accuracy, found.undisturbed) == (2, 3, 0.625, 0.75)
    assert exposure_in_words(found) == (
        "exposure: withdrawn and not replaced: shards 1 for 3 d 4 h; 2 of 3 shards answer meanwhile, with an accuracy "
        "of 0.6250 (0.7500 with all of them)"
    )
    trained.workspace.report("shard_count.csv").unlink()
    assert exposure(trained.workspace, served, LATER).accuracy is None


def test_the_accuracy_of_an_earlier_slice_is_not_known(trained: Project) -> None:
    trained.stages("evaluate")
    trained.forget(trained.victim(0, 2), trained.victim(1, 2))
    withdraw(trained.workspace)
    served = status(trained).served
    assert served is not None
    assert [each.earlier_slice for each in served.away] == [1, 1]
    assert exposure(trained.workspace, served, LATER).accuracy is None


@pytest.mark.parametrize(
    ("age", "words"),
    [
        ({"seconds": 59}, "0 min"),
        ({"minutes": 61}, "1 h 1 min"),
        ({"hours": 23, "minutes": 59}, "23 h 59 min"),
        ({"days": 30, "hours": 5, "minutes": 50}, "30 d 5 h"),
    ],
)
def test_ages_have_two_units(age: dict[str, int], words: str) -> None:
    assert in_words(timedelta(**age)) == words
