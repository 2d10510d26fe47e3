"""`sisa forget`: from the first word of a request to the last, and the only way back."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import MODELS, Project

from serving.ensemble.manifest import Manifest
from serving.ensemble.turnout import turnout
from training.errors import ForgetListError, MemoryLostError, RequestError
from training.forgetting.add import add, look_ahead
from training.forgetting.carrying import export_memory, import_memory
from training.forgetting.known import look_up
from training.forgetting.reinstate import reinstate
from training.forgetting.requests import cancel, list_requests, show_request, steps_of
from training.publish.history import read_history, withdrawn_models
from training.publish.withdraw import withdraw


def pending(project: Project) -> tuple[int, ...]:
    return turnout(Manifest.model_validate(project.manifest())).pending


def test_a_request_is_kept_private_and_withdraws_at_once(trained: Project) -> None:
    victim = trained.victim(1, 1)
    done = add(trained.workspace, [victim], name="ticket-7", by="ada", reference="T-7", approver="bob")
    assert (done.request, done.samples, done.unknown, done.pending) == ("ticket-7", (victim,), (), (1,))
    assert done.outlook.shards == (1,)
    assert (done.outlook.answered, done.outlook.of, done.outlook.needed) == (2, 3, 2)
    path = trained.workspace.private_folder / "ticket-7.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (item,) = list_requests(trained.workspace)
    assert (item.request, item.samples, item.step, item.actor) == ("ticket-7", 1, "withdrawn", "ada")
    assert (item.reference, item.approver, item.private) == ("T-7", "bob", True)
    assert show_request(trained.workspace, "ticket-7").samples == (victim,)
    trained.stages("partition", "schedule", "train", "assemble")
    assert list_requests(trained.workspace)[0].step == "published"
    assert victim not in trained.shard(1).ids
    assert pending(trained) == ()


def test_git_is_told_neither_ids_nor_requests(trained: Project) -> None:
    trained.with_git()
    victim = trained.victim(1, 1)
    add(trained.workspace, [victim], name="ticket-7")
    assert "private" not in trained.run("git", "status", "--short", "--untracked-files=all").stdout
    assert f'"{victim}"' not in trained.workspace.ledger_export.read_text()


def test_an_id_that_was_never_a_sample_is_left_out_and_named_and_the_others_are_asked_for(trained: Project) -> None:
    victim = trained.victim(1, 1)
    done = add(trained.workspace, [victim, "99999", victim])
    assert (done.samples, done.unknown, done.pending) == ((victim,), ("99999",), (1,))
    nothing = add(trained.workspace, ["seven"])
    assert (nothing.request, nothing.unknown) == (None, ("seven",))
    taken = add(trained.workspace, ["seven"], name="gone", gone=True)
    assert show_request(trained.workspace, "gone").gone == ("seven",)
    assert taken.withdrawn == ()


@pytest.mark.parametrize("name", ["../x", "a b", ".hidden", "x" * 65, "ticket-7", "Ticket-7"])
def test_a_name_that_is_taken_or_cannot_be_a_files_is_refused(trained: Project, name: str) -> None:
    add(trained.workspace, [trained.victim(0, 1)], name="ticket-7")
    with pytest.raises(RequestError, match=r"name"):
        add(trained.workspace, [trained.victim(1, 1)], name=name)
    assert pending(trained) == (0,)


def test_a_person_is_forgotten_whole(create: Callable[..., Project]) -> None:
    project = create("people", data__subjects="data/subjects/people.csv")
    rows = "".join(f"{number},person {number // 10}\n" for number in range(200))
    (project.folder / "data/subjects/people.csv").write_text(f"sample_id,subject\n{rows}")
    project.stages(*MODELS)
    shard_id = next(k for k in range(3) if "70" in project.shard(k).ids)
    done = add(project.workspace, ["subject:person 7", "subject:person 99"])
    assert (done.unknown, done.outlook.shards, done.pending) == (("subject:person 99",), (shard_id,), (shard_id,))
    project.stages(*MODELS)
    assert not {str(number) for number in range(70, 80)} & set(project.shard(shard_id).ids)
    assert list_requests(project.workspace)[0].step == "published"


def test_what_a_request_would_do_is_said_before(trained: Project) -> None:
    victims = [trained.victim(0, 0), trained.victim(1, 0)]
    outlook = look_ahead(look_up(trained.workspace), victims)
    assert (outlook.shards, outlook.answered, outlook.needed, outlook.quorum_holds) == ((0, 1), 1, 2, False)
    assert outlook.accuracy is None  # nothing was evaluated yet
    trained.workspace.report("shard_count.csv").write_text("shards,mean,vote\n1,0.5,0.25\n")
    assert look_ahead(look_up(trained.workspace), victims).accuracy == 0.5
    assert read_history(trained.workspace)[-1].event == "published"  # nothing was done


def test_a_cancelled_request_comes_back_and_its_withdrawn_model_does_not(trained: Project) -> None:
    before = trained.models()
    old = trained.manifest()["shards"][1]["sha256"]
    add(trained.workspace, [trained.victim(1, 1)], name="ticket-7")
    cancel(trained.workspace, "ticket-7", "asked by mistake")
    assert not (trained.workspace.private_folder / "ticket-7.json").exists()
    trained.stages("partition", "schedule", "train", "assemble")
    assert pending(trained) == ()
    after = trained.models()
    assert {name for name in before if before[name] != after[name]} == {"models/exports/block-1/shard-1.onnx"}
    assert trained.manifest()["shards"][1]["sha256"] != old  # another issue of the same weights
    assert old in withdrawn_models(read_history(trained.workspace))


def test_what_two_ask_for_stays_forgotten_when_one_takes_it_back(trained: Project) -> None:
    victim = trained.victim(1, 1)
    add(trained.workspace, [victim], name="a")
    add(trained.workspace, [victim], name="b", reference="T-9")
    assert [(item.request, item.step) for item in list_requests(trained.workspace)] == [
        ("a", "withdrawn"),
        ("b", "withdrawn"),  # its shard was pending already
    ]
    cancel(trained.workspace, "b", "a mistake")
    trained.stages("partition", "schedule", "train", "assemble")
    assert victim not in trained.shard(1).ids
    assert show_request(trained.workspace, "a").samples == (victim,)
    add(trained.workspace, [victim], name="c")  # long after it is carried out
    steps = steps_of(read_history(trained.workspace))
    assert (steps["a"], steps["b"], steps["c"]) == ("published", "cancelled", "published")
    with pytest.raises(RequestError, match="is carried out"):
        cancel(trained.workspace, "c", "a mistake")


def test_a_persons_request_is_cancelled_and_reinstated_whole(create: Callable[..., Project]) -> None:
    project = create("people", data__subjects="data/subjects/people.csv")
    rows = "".join(f"{number},person {number // 10}\n" for number in range(200))
    (project.folder / "data/subjects/people.csv").write_text(f"sample_id,subject\n{rows}")
    project.stages(*MODELS)
    pictures = {str(number) for number in range(70, 80)}
    for way_back in ("cancel", "reinstate"):
        add(project.workspace, ["subject:person 7"], name=way_back)
        if way_back == "cancel":
            cancel(project.workspace, way_back, "a mistake")
        else:
            project.stages(*MODELS)
            with pytest.raises(RequestError, match="request for a whole subject"):
                reinstate(project.workspace, ["71"], "consent for one")
            assert reinstate(project.workspace, ["subject:person 7"], "consent") == 10
        project.stages(*MODELS)
        assert pictures <= {name for shard_id in range(3) for name in project.shard(shard_id).ids}
        assert pending(project) == ()


def test_a_request_for_what_no_model_saw_is_done_at_once(trained: Project) -> None:
    add(trained.workspace, ["seven"], name="gone", gone=True)
    assert [(item.request, item.step) for item in list_requests(trained.workspace)] == [("gone", "published")]
    entry = read_history(trained.workspace)[-1]
    assert entry.event == "withdrawn"
    assert (entry.models, entry.requests) == ((), ("gone",))


def test_what_is_carried_out_cannot_be_cancelled_and_only_reinstated(trained: Project) -> None:
    victim = trained.victim(1, 1)
    add(trained.workspace, [victim], name="ticket-7")
    trained.stages("partition", "schedule", "train", "assemble")
    with pytest.raises(RequestError, match="is carried out"):
        cancel(trained.workspace, "ticket-7", "too late")
    with pytest.raises(RequestError, match="reason is missing"):
        reinstate(trained.workspace, [victim], " ")
    with pytest.raises(RequestError, match="never forgotten here"):
        reinstate(trained.workspace, [trained.victim(0, 0)], "why not")
    assert reinstate(trained.workspace, [victim], "consent given again", by="ada") == 1
    trained.stages("partition", "schedule", "train", "assemble")
    assert victim in trained.shard(1).ids
    assert pending(trained) == ()
    entry = next(entry for entry in read_history(trained.workspace) if entry.event == "reinstated")
    assert (entry.actor, entry.event) == ("ada", "reinstated")


def test_what_a_list_names_is_its_owners_to_take_off(trained: Project) -> None:
    victim = trained.victim(1, 1)
    trained.forget(victim)
    trained.stages("partition")
    with pytest.raises(RequestError, match=r"take these lines off .*\n  forget/requests\.txt:1"):
        reinstate(trained.workspace, [victim], "consent")


def test_a_request_is_never_only_monitored(trained: Project) -> None:
    add(trained.workspace, [trained.victim(1, 1)])
    trained.change(forget__apply=False)
    with pytest.raises(ForgetListError, match="never only monitored"):
        trained.stages("partition")


def test_a_damaged_request_stops_the_run_and_the_others_are_withdrawn(trained: Project) -> None:
    add(trained.workspace, [trained.victim(1, 1)], name="one")
    (trained.workspace.private_folder / "two.json").write_text("{")
    add_later = trained.workspace.private_folder / "three.json"
    add_later.write_text((trained.workspace.private_folder / "one.json").read_text().replace("one", "three"))
    with pytest.raises(ForgetListError, match=r"two\.json is not a request that can be read"):
        trained.stages("partition")
    assert pending(trained) == (1,)


def test_a_clone_takes_over_the_memory_and_without_it_forgets_nothing(trained: Project, tmp_path: Path) -> None:
    victim = trained.victim(1, 1)
    add(trained.workspace, [victim], name="ticket-7")
    trained.stages("partition", "schedule", "train", "assemble")
    clone = trained.copy(tmp_path / "clone")
    clone.run("rm", "-r", ".sisa", "forget/private")
    with pytest.raises(MemoryLostError, match="sisa forget import FILE"):
        clone.stages("partition")
    carried = tmp_path / "memory.tar"
    export_memory(trained.workspace, carried)
    assert stat.S_IMODE(carried.stat().st_mode) == 0o600
    assert import_memory(clone.workspace, carried) > 0
    assert import_memory(clone.workspace, carried) == 0
    assert show_request(clone.workspace, "ticket-7").samples == (victim,)
    clone.stages("partition", "schedule", "train", "assemble")
    assert clone.manifest() == trained.manifest()


def test_two_memories_are_not_made_one(trained: Project, tmp_path: Path) -> None:
    add(trained.workspace, [trained.victim(1, 1)], name="ticket-7")
    carried = tmp_path / "memory.tar"
    export_memory(trained.workspace, carried)
    with pytest.raises(RequestError, match="is there already"):
        export_memory(trained.workspace, carried)
    other = Project.create(tmp_path / "other")
    other.stages("partition")
    other.forget(other.victim(0, 0))
    other.stages("partition")
    before = other.contents(".sisa")
    with pytest.raises(RequestError, match="another secret"):
        import_memory(other.workspace, carried)
    assert {k: v for k, v in other.contents(".sisa").items() if "locks" not in k} == {
        k: v for k, v in before.items() if "locks" not in k
    }
    (tmp_path / "nonsense.tar").write_bytes(b"no tar")
    with pytest.raises(RequestError, match="cannot be read"):
        import_memory(other.workspace, tmp_path / "nonsense.tar")


def test_the_command_does_it_in_one_process_and_prints_json(trained: Project) -> None:
    victim = trained.victim(1, 1)
    done = trained.run("sisa", "forget", "add", victim, "77777", "--name", "t", "--json", check=False)
    assert done.returncode == 1  # 77777 was never a sample
    assert "77777" in done.stderr
    document = json.loads(done.stdout)
    assert (document["samples"], document["unknown"], document["pending"]) == ([victim], ["77777"], [1])
    listed = json.loads(trained.run("sisa", "forget", "list", "--json").stdout)
    assert [item["request"] for item in listed["requests"]] == ["t"]
    assert victim in trained.run("sisa", "forget", "show", "t").stdout
    trained.run("sisa", "forget", "cancel", "t", "--reason", "a test")
    assert trained.run("sisa", "forget", "show", "t", check=False).returncode == 1


@pytest.mark.heavy
def test_a_command_killed_at_any_moment_leaves_no_request_or_one_that_the_next_carries_out(
    trained: Project, tmp_path: Path
) -> None:
    victim, other = trained.victim(1, 1), trained.victim(2, 1)
    started = time.monotonic()
    trained.copy(tmp_path / "whole").run("sisa", "forget", "add", victim, "--name", "t")
    whole = time.monotonic() - started
    left = set()
    for step in range(12):
        project = trained.copy(tmp_path / f"killed-{step}")
        command = ("-m", "training.commands.app", "forget", "add", victim, "--name", "t")
        with project.start(sys.executable, *command) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=whole * step / 12)
            process.kill()
        asked = (project.workspace.private_folder / "t.json").exists()
        left.add(asked)
        withdraw(project.workspace) if asked else add(project.workspace, [other], name="another")
        assert pending(project) == ((1,) if asked else (2,))
        assert steps_of(read_history(project.workspace)) == {"t" if asked else "another": "withdrawn"}
    assert left == {False, True}


def test_what_was_reinstated_can_be_forgotten_again_before_it_is_trained_on(trained: Project) -> None:
    victim = trained.victim(1, 1)
    add(trained.workspace, [victim], name="a")
    trained.stages("partition", "schedule", "train", "assemble")
    reinstate(trained.workspace, [victim], "a mistake")
    done = add(trained.workspace, [victim], name="b")
    assert (done.samples, done.unknown) == ((victim,), ())
    trained.stages("partition")
    assert victim not in trained.shard(1).ids
