"""`sisa forget run`: retrain once a window has closed, one at a time, and complete what was stopped."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from conftest import Project
from test_interruption import lock_holders, wait_for

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.errors import BusyError, DvcError, RequestError
from training.forgetting.run import is_due, run
from training.forgetting.status import read_status
from training.publish.events import Published
from training.publish.history import read_history
from training.publish.withdraw import withdraw

WEEK = timedelta(days=7)


def pending(project: Project) -> tuple[int, ...]:
    return turnout(Manifest.model_validate(project.manifest())).pending


def test_within_the_window_it_withdraws_and_trains_nothing(trained: Project) -> None:
    trained.forget(trained.victim(1, 1))
    outcome = run(trained.workspace, WEEK)
    assert not outcome.due
    assert pending(trained) == (1,)
    assert [each.step for each in outcome.status.open] == ["withdrawn"]
    assert not trained.workspace.unfinished_run.exists()


def test_a_run_is_due_when_the_oldest_open_request_is_as_old_as_the_window(trained: Project) -> None:
    trained.forget(trained.victim(1, 1))
    withdraw(trained.workspace)
    found = read_status(trained.workspace, datetime.now(UTC))
    asked = found.open[0].since
    assert not is_due(trained.workspace, found, WEEK, asked + WEEK - timedelta(seconds=1))
    assert is_due(trained.workspace, found, WEEK, asked + WEEK)
    assert is_due(trained.workspace, found, timedelta(0), asked)


def test_where_nothing_is_open_no_window_ever_closes(trained: Project) -> None:
    found = read_status(trained.workspace, datetime.now(UTC))
    assert not is_due(trained.workspace, found, timedelta(0), datetime.now(UTC))
    assert not is_due(trained.workspace, found, WEEK, datetime.now(UTC) + 100 * WEEK)


def test_a_window_of_none_also_brings_up_to_date_what_no_request_is_about(trained: Project) -> None:
    trained.change(training__momentum=0.5)
    trained.stages("partition", "schedule")
    found = read_status(trained.workspace, datetime.now(UTC))
    assert is_due(trained.workspace, found, timedelta(0), datetime.now(UTC))
    assert not is_due(trained.workspace, found, WEEK, datetime.now(UTC) + 100 * WEEK)


def test_a_list_that_no_run_has_read_is_as_old_as_its_file(trained: Project) -> None:
    trained.forget("3")
    path, then = trained.folder / "forget/requests.txt", datetime(2026, 1, 1, tzinfo=UTC)
    os.utime(path, (then.timestamp(), then.timestamp()))
    found = read_status(trained.workspace, datetime.now(UTC))
    assert not is_due(trained.workspace, found, WEEK, then + WEEK - timedelta(seconds=1))
    assert is_due(trained.workspace, found, WEEK, then + WEEK)


def test_a_dry_run_writes_nothing(trained: Project) -> None:
    trained.forget(trained.victim(1, 1))
    before = trained.contents(".sisa", "models", "data")
    assert run(trained.workspace, timedelta(0), dry_run=True).due
    assert trained.contents(".sisa", "models", "data") == before


def test_a_second_one_does_not_wait_for_the_first(trained: Project) -> None:
    trained.forget(trained.victim(1, 1))
    with trained.workspace.run_lock():
        with pytest.raises(BusyError, match=f"process {os.getpid()} is at it"):
            run(trained.workspace, WEEK)
        done = trained.run("sisa", "forget", "run", check=False)
    assert done.returncode == 3
    assert "`sisa forget run` or `sisa erase`: process" in done.stderr
    assert pending(trained) == ()


def test_an_experiment_forgets_nothing(trained: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "trial")
    with pytest.raises(RequestError, match="is an experiment"):
        run(trained.workspace, WEEK)


def test_where_dvc_fails_the_withdrawal_stands_and_the_next_run_is_due(trained: Project) -> None:
    trained.forget(trained.victim(1, 1))
    (trained.folder / "dvc.yaml").write_text("stages: none\n")
    done = trained.run("sisa", "forget", "run", check=False)
    assert done.returncode == 1
    assert "error: `dvc repro` failed in" in done.stderr
    assert pending(trained) == (1,)
    with pytest.raises(DvcError):
        run(trained.workspace, WEEK)


@pytest.mark.parametrize("window", ["7", "-1d", "week", "0d", ""])
def test_a_window_that_is_none_is_refused(trained: Project, window: str) -> None:
    done = trained.run("sisa", "forget", "run", "--window", window, check=False)
    assert done.returncode == 2
    assert "expected hours or days" in done.stderr


@pytest.mark.pipeline
@pytest.mark.heavy
def test_killed_while_dvc_runs_the_next_one_completes_it_whatever_its_window(reproduced: Project) -> None:
    before = {shard["shard"]: shard["sha256"] for shard in reproduced.manifest()["shards"]}
    reproduced.forget(reproduced.victim(1, 1))
    process = reproduced.start("sisa", "forget", "run", "--window", "0")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Running stage 'schedule'"):
            break
    os.killpg(process.pid, signal.SIGKILL)  # and DVC with it
    process.wait()
    process.stdout.close()
    wait_for(lambda: not any(map(psutil.pid_exists, lock_holders(reproduced))), "the system to forget the killed DVC")
    assert reproduced.workspace.unfinished_run.exists()
    assert pending(reproduced) == (1,)
    done = reproduced.run("sisa", "forget", "run", "--window", "7d")
    assert "exposure: withdrawn and not replaced: shards 1 for " in done.stdout
    assert "2 of 3 shards answer meanwhile, with an accuracy of" in done.stdout
    assert "the last run did not come to its end" in done.stdout
    assert done.stdout.endswith("Everything is served as it is asked for.\n")
    after = {shard["shard"]: shard["sha256"] for shard in reproduced.manifest()["shards"]}
    assert {shard for shard in after if after[shard] != before[shard]} == {1}
    assert not reproduced.workspace.unfinished_run.exists()
    entries = read_history(reproduced.workspace)
    assert isinstance(entries[-1], Published)
    assert entries[-1].pending == ()
    done = reproduced.run("sisa", "forget", "run", "--window", "7d")
    assert "no request is open" in done.stdout
    assert "Running stage" not in done.stdout
