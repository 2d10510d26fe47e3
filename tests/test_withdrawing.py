"""What is asked to be forgotten is withdrawn before anything else happens, and nothing that saw it comes back."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Project
from faults import stopped_at_sync

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.engine.serial import train_shard
from training.errors import DamagedError, ForgetListError, MemoryLostError, SisaError
from training.memory.members import read_members
from training.memory.secret import read_secret
from training.publish.events import FellBack, Published, Requested, Withdrawn
from training.publish.history import cost, read_history, withdrawn_models
from training.publish.publish import publish
from training.publish.release import assemble
from training.publish.withdraw import withdraw


def manifest(project: Project) -> Manifest:
    return Manifest.model_validate(project.manifest())


def models(project: Project) -> dict[int, str | None]:
    """By shard the model that answers."""
    return {shard.shard: shard.sha256 for shard in manifest(project).shards}


def events(project: Project) -> list[str]:
    return [entry.event for entry in read_history(project.workspace)]


def test_a_request_withdraws_the_model_that_saw_the_sample_and_no_other(trained: Project) -> None:
    before = models(trained)
    trained.forget(trained.victim(1, 1))
    done = withdraw(trained.workspace)
    assert (done.requests, done.shards, done.models) == (("forget/requests.txt",), (1,), (before[1],))
    assert models(trained) == {0: before[0], 1: None, 2: before[2]}
    assert turnout(manifest(trained)).pending == (1,)
    assert manifest(trained).generation == 2
    assert not list(trained.workspace.onnx_folder.glob("shard-1-*"))
    assert not trained.workspace.export_file(1).exists()  # so that DVC runs its trainer, whatever else it finds
    _, requested, withdrawn = read_history(trained.workspace)
    assert isinstance(requested, Requested)
    assert (requested.request, requested.samples) == ("forget/requests.txt", 1)
    assert isinstance(withdrawn, Withdrawn)
    assert (withdrawn.models, withdrawn.shards, withdrawn.generation) == ((before[1],), (1,), 2)
    assert withdraw(trained.workspace).models == ()
    assert len(events(trained)) == 3


@pytest.mark.parametrize("trouble", ["a typo", "an unreadable list", "a bad id", "no source", "a damaged shard file"])
def test_whatever_stops_partition_the_withdrawal_stands(trained: Project, trouble: str) -> None:
    victim = trained.victim(2, 2)
    trained.forget(victim)
    folder = trained.workspace.forget_folder
    if trouble == "a typo":
        (folder / "more.txt").write_text("99999\n")
    elif trouble == "an unreadable list":
        (folder / "more.txt").write_bytes(b"\xff\xfe\x00")
    elif trouble == "a bad id":
        (folder / "requests.txt").write_text(f"{victim}\nseven\n")
    elif trouble == "no source":
        trained.change(data__source="imagefolder", data__root="nowhere")
    else:
        trained.workspace.shard_file(1).write_bytes(b"damaged")
        trained.workspace.forget_folder.joinpath(".hidden.txt").write_text(victim)
    with pytest.raises(SisaError):
        trained.stages("partition")
    assert turnout(manifest(trained)).pending == (2,)
    with pytest.raises(SisaError):
        trained.stages("partition")
    assert turnout(manifest(trained)).pending == (2,)


def test_after_training_the_shard_answers_again_and_nothing_is_pending(trained: Project) -> None:
    before = models(trained)
    trained.forget(trained.victim(1, 1))
    trained.stages("partition", "schedule")
    trained.stages("train", "assemble")
    after = models(trained)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] not in (None, before[1])
    assert turnout(manifest(trained)).answered == 3
    assert events(trained) == ["published", "requested", "withdrawn", "published"]
    assert manifest(trained).generation == 3


def test_each_shard_answers_again_as_soon_as_it_is_trained(trained: Project) -> None:
    trained.change(serve={"quorum": 0.1})
    trained.forget(trained.victim(0, 0), trained.victim(1, 1))
    trained.stages("partition", "schedule")
    assert turnout(manifest(trained)).pending == (0, 1)
    from training.stages.train import train_and_offer

    train_and_offer(trained.workspace, 0)
    assert turnout(manifest(trained)).pending == (1,)
    train_and_offer(trained.workspace, 1)
    assert turnout(manifest(trained)).pending == (1,)  # the last one comes with the candidate
    trained.stages("assemble")
    assert turnout(manifest(trained)).pending == ()
    counts = [[trained.shard(k).slices.tolist().count(r) for r in range(3)] for k in (0, 1)]
    by_hand = sum(sum(counts[0][: r + 1]) for r in range(3)) + sum(sum(counts[1][: r + 1]) for r in (1, 2))
    assert cost(read_history(trained.workspace)).sample_epochs == by_hand  # of both shards


def test_together_no_shard_answers_before_all_are_trained(trained: Project) -> None:
    trained.change(serve={"quorum": 0.1}, publish={"readmit": "together"})
    trained.forget(trained.victim(0, 0), trained.victim(1, 1))
    trained.stages("partition", "schedule", "train")
    assert turnout(manifest(trained)).pending == (0, 1)
    trained.stages("assemble")
    assert turnout(manifest(trained)).pending == ()


def test_where_the_quorum_would_fail_the_deepest_slice_that_never_saw_the_sample_answers(trained: Project) -> None:
    trained.forget(trained.victim(0, 2), trained.victim(1, 0))
    withdraw(trained.workspace)
    now = {shard.shard: shard for shard in manifest(trained).shards}
    assert (now[0].earlier_slice, now[0].abstains) == (1, False)
    assert now[0].retained == sum(trained.shard(0).slices < 2)
    assert now[1].pending  # its first slice saw the sample: there is nothing to fall back to
    entry = read_history(trained.workspace)[-1]
    assert isinstance(entry, FellBack)
    assert entry.earlier_slice == {"0": 1}
    # A second request, of what the earlier slice has seen, takes that out as well.
    stood_in = now[0].sha256
    trained.forget(trained.victim(0, 2), trained.victim(1, 0), trained.victim(0, 1))
    withdraw(trained.workspace)
    now = {shard.shard: shard for shard in manifest(trained).shards}
    assert now[0].earlier_slice == 0
    assert stood_in in withdrawn_models(read_history(trained.workspace))


def test_the_last_gate_keeps_back_what_was_trained_before_a_request(trained: Project) -> None:
    victim = trained.victim(1, 1)
    trained.change(training__momentum=0.5)
    trained.stages("partition", "schedule", "train")  # every shard, with the sample in it
    assemble(trained.workspace)
    trained.forget(victim)
    publish(trained.workspace)
    assert turnout(manifest(trained)).pending == (1,)
    trained.stages("partition", "schedule", "train", "assemble")
    assert turnout(manifest(trained)).pending == ()
    (last,) = [entry for entry in read_history(trained.workspace) if isinstance(entry, Published)][-1:]
    assert last.pending == ()


def test_old_models_that_come_back_are_not_published(trained: Project, tmp_path: Path) -> None:
    old = trained.copy(tmp_path / "old")
    trained.forget(trained.victim(1, 1))
    trained.stages("partition", "schedule", "train", "assemble")
    for name in ("models/exports", "models/release.json", "data/shards", "data/partition.json", "forget"):
        path, back = trained.folder / name, old.folder / name
        if back.is_dir():
            shutil.rmtree(path)
            shutil.copytree(back, path)
        else:
            shutil.copy(back, path)
    publish(trained.workspace)
    assert turnout(manifest(trained)).pending == (1,)
    assert old.manifest()["shards"][1]["sha256"] in withdrawn_models(read_history(trained.workspace))


def test_nothing_that_git_sees_names_a_sample(trained: Project) -> None:
    (trained.folder / "forget/requests.txt").write_text("1234\n")
    withdraw(trained.workspace)
    trained.stages("partition")
    for line in trained.workspace.ledger_export.read_text().splitlines():
        assert '"1234"' not in line
    secret = trained.workspace.secret_file
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(trained.workspace.suppressed_file.stat().st_mode) == 0o600
    assert b"1234" not in trained.workspace.suppressed_file.read_bytes().replace(read_secret(secret).name.encode(), b"")  # type: ignore[union-attr]


@pytest.mark.parametrize("lost", ["secret_file", "suppressed_file", "memory_folder"])
def test_a_lost_memory_stops_the_run_and_says_how_to_restore_it(trained: Project, lost: str) -> None:
    trained.forget(trained.victim(1, 1))
    trained.stages("partition")
    path: Path = getattr(trained.workspace, lost)
    kept = trained.folder / "kept"
    path.rename(kept)
    for _ in range(2):
        with pytest.raises(MemoryLostError, match=r"restore \.sisa/ from its backup"):
            trained.stages("partition")
    if path.is_dir():
        shutil.rmtree(path)  # locks
    kept.rename(path)
    trained.stages("partition")


def test_another_secret_is_noticed(trained: Project) -> None:
    trained.forget(trained.victim(1, 1))
    trained.stages("partition")
    trained.workspace.secret_file.write_bytes(bytes(32))
    with pytest.raises(MemoryLostError, match="was written under"):
        trained.stages("partition")


def test_an_experiment_must_not_be_the_first_to_see_a_request(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.forget(trained.victim(1, 1))
    before = trained.contents(".sisa", "models")
    monkeypatch.setenv("DVC_EXP_NAME", "trial")
    with pytest.raises(ForgetListError, match="in the project first"):
        trained.stages("partition")
    assert {name: content for name, content in trained.contents(".sisa", "models").items() if "locks" not in name} == {
        name: content for name, content in before.items() if "locks" not in name
    }


def test_the_members_index_has_every_sample_of_a_model_with_its_slice(trained: Project) -> None:
    secret = read_secret(trained.workspace.secret_file)
    assert secret is not None
    for shard_id, sha256 in models(trained).items():
        assert sha256 is not None
        shard = trained.shard(shard_id)
        expected = {secret.of_id(name): int(where) for name, where in zip(shard.ids, shard.slices, strict=True)}
        assert read_members(trained.workspace.members_file(sha256)).slices == expected


@pytest.mark.heavy
def test_stopped_at_any_step_of_a_withdrawal_the_next_call_completes_it(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.forget(trained.victim(0, 2), trained.victim(1, 1))

    steps = 0
    while True:
        project = trained.copy(tmp_path / f"stopped-{steps}")
        if not stopped_at_sync(steps, partial(withdraw, project.workspace), monkeypatch):
            break
        withdraw(project.workspace)
        assert turnout(manifest(project)).answered == 3
        assert turnout(manifest(project)).earlier_slice == (0, 1)
        assert [event for event in events(project) if event != "fell-back"] == ["published", "requested", "withdrawn"]
        shutil.rmtree(project.folder)
        steps += 1
    assert steps > 10


def test_what_a_service_beside_it_was_told_to_withdraw_is_trained_again(trained: Project) -> None:
    told = models(trained)[1]
    path = trained.workspace.models_folder / "withdrawn.json"
    path.write_text(
        json.dumps({"withdrawn": {str(told): "2026-11-26T00:00:00+00:00", "f" * 64: "2026-11-26T00:00:00"}})
    )
    trained.stages("assemble")
    assert turnout(manifest(trained)).pending == (1,)
    trained.stages("partition", "schedule", "train", "assemble")
    assert models(trained)[1] not in (None, told)  # another issue of the same weights
    assert turnout(manifest(trained)).pending == ()
    path.write_text("{}")
    with pytest.raises(DamagedError, match=r"withdrawn\.json is damaged"):
        withdraw(trained.workspace)


def test_where_nothing_was_forgotten_a_lost_secret_is_made_anew_with_all_tables(trained: Project) -> None:
    victim = trained.victim(1, 1)
    trained.workspace.secret_file.unlink()
    trained.forget(victim)
    assert withdraw(trained.workspace).shards == (1,)


def test_a_model_of_which_nobody_knows_whom_it_saw_is_withdrawn_by_the_next_request(
    trained: Project,
) -> None:
    unread = models(trained)[1]
    trained.workspace.members_file(str(unread)).unlink()
    trained.workspace.shard_file(1).unlink()
    withdraw(trained.workspace)
    assert turnout(manifest(trained)).pending == ()  # nothing is asked for
    trained.forget(trained.victim(0, 1))
    withdraw(trained.workspace)
    assert {*turnout(manifest(trained)).pending, *turnout(manifest(trained)).earlier_slice} == {0, 1}


def test_what_is_listed_after_training_does_not_pass_though_no_published_model_saw_it(
    create: Callable[..., Project],
) -> None:
    project = create("fresh")
    project.stages("partition", "schedule")
    for shard_id in range(3):
        train_shard(project.workspace, shard_id)
    assemble(project.workspace)
    project.forget(project.victim(1, 1))
    publish(project.workspace)
    assert turnout(manifest(project)).pending == (1,)
    assert events(project) == ["requested", "withdrawn", "published"]


def test_lines_of_the_memory_in_another_order_are_noticed(trained: Project) -> None:
    victims = trained.victim(1, 1), trained.victim(0, 1)
    for count in (1, 2):
        trained.forget(*victims[:count])
        trained.stages("partition")
    path = trained.workspace.suppressed_file
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(second + first)
    with pytest.raises(MemoryLostError, match="in another order than the ledger"):
        trained.stages("partition")


def test_what_services_withdrew_does_not_answer_from_an_earlier_slice(trained: Project) -> None:
    told = dict.fromkeys(map(str, models(trained).values()), "2026-11-26T00:00:00+00:00")
    (trained.workspace.models_folder / "withdrawn.json").write_text(json.dumps({"withdrawn": told}))
    withdraw(trained.workspace)
    assert turnout(manifest(trained)).pending == (0, 1, 2)
