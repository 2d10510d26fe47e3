"""Models that were withdrawn never answer again: one worker's view, without a server; see test_withdraw.py."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import FLAT, RED, Bias, picture, publish, write_manifest

import serving.generations
from serving.ensemble.loading import Ensemble
from serving.ensemble.manifest import EnsembleUnavailable
from serving.generations import Generations

BIASES: list[Bias] = [(0.1, 0, 0), (0.2, 0, 0), (0.3, 0, 0)]  # three models, three digests


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish(tmp_path / "models", 1, BIASES)
    return tmp_path / "models"


@pytest.fixture
def start(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Generations]:
    monkeypatch.setattr(serving.generations, "RETRY_SECONDS", 0.0)
    return lambda: Generations(models, models / "state", "cpu", threads=2)


Start = Callable[[], Generations]


def digests(models: Path) -> list[str]:
    """Of the shards of the manifest, in order."""
    return [shard["sha256"] for shard in json.loads((models / "ensemble.json").read_text())["shards"]]


def answering(generations: Generations) -> tuple[int, ...]:
    ensemble = generations.current()
    if ensemble.models:
        assert len(ensemble.shard_probabilities(picture(RED)[None])) == len(ensemble.manifest.shard_ids)
    return ensemble.manifest.shard_ids


def refused(generations: Generations) -> str:
    with pytest.raises(EnsembleUnavailable) as caught:
        generations.current()
    return str(caught.value)


def test_a_withdrawn_model_answers_no_more_and_the_rest_is_not_opened_again(start: Start, models: Path) -> None:
    generations = start()
    before = generations.current()
    gone = digests(models)[1]
    done = generations.withdraw([gone])
    assert done.fresh == done.withdrawn == {gone}
    assert done.manifest is not None
    assert done.manifest.shard_ids == (0, 1, 2)
    assert not generations.is_current(before)
    after = generations.current()
    assert after.manifest.shard_ids == (0, 2)
    assert after.turnout.pending == (1,)
    assert after.models == (before.models[0], before.models[2])
    assert after.digest == before.digest  # of the file that is published


def test_another_worker_a_later_one_and_one_after_a_restart_know_it(start: Start, models: Path) -> None:
    one, other = start(), start()
    assert answering(one) == answering(other) == (0, 1, 2)
    one.withdraw(digests(models)[:1])
    assert answering(other) == answering(one) == answering(start()) == (1, 2)


def test_asking_again_changes_nothing(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(digests(models)[:1])
    ensemble = generations.current()
    again = generations.withdraw(digests(models)[:1])
    assert not again.fresh
    assert again.withdrawn == set(digests(models)[:1])
    assert generations.is_current(ensemble)


def test_a_digest_that_is_not_served_is_withdrawn_in_advance(start: Start, models: Path) -> None:
    generations = start()
    publish(models, 2, [*BIASES, FLAT])
    coming = digests(models)[3]
    publish(models, 3, BIASES)
    ensemble = generations.current()
    generations.withdraw([coming])
    assert generations.current() is ensemble
    publish(models, 4, [*BIASES, FLAT])
    assert answering(generations) == (0, 1, 2)


def test_a_manifest_that_lists_another_digest_brings_the_shard_back(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(digests(models)[:1])
    publish(models, 2, [(0.9, 0, 0), *BIASES[1:]])
    assert answering(generations) == (0, 1, 2)


@pytest.mark.parametrize("generation", [2, 3])
def test_a_later_generation_that_lists_it_again_does_not(start: Start, models: Path, generation: int) -> None:
    generations = start()
    generations.withdraw(digests(models)[:1])
    publish(models, generation, [*BIASES, FLAT])
    assert answering(generations) == answering(start()) == (1, 2, 3)


def test_an_older_manifest_put_back_with_its_floor_deleted_never_answers_with_it(start: Start, models: Path) -> None:
    """As `git checkout` and a deleted floor, or a state folder that lost its floor, would have it."""
    old = (models / "ensemble.json").read_text()
    generations = start()
    gone = digests(models)[:1]
    publish(models, 2, [(0.9, 0, 0), *BIASES[1:]])
    assert answering(generations) == (0, 1, 2)
    generations.withdraw(gone)
    assert answering(generations) == (0, 1, 2)
    write_manifest(models, old)
    assert "but 2 has been seen" in refused(generations)
    (models / "state/floor.json").unlink()
    os.utime(models / "ensemble.json")
    assert answering(generations) == answering(start()) == (1, 2)


def test_a_manifest_that_is_pending_itself_needs_no_file(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    document = json.loads((models / "ensemble.json").read_text()) | {"generation": 2}
    (models / document["shards"][0]["file"]).unlink()
    document["shards"][0] |= {"abstains": True, "file": None, "sha256": None, "pending": True}
    write_manifest(models, json.dumps(document))
    assert answering(generations) == (1, 2)
    assert generations.current().turnout.pending == (0,)


def test_a_file_of_a_withdrawn_model_may_be_missing_or_damaged(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(digests(models)[:1])
    for file in (models / "onnx").glob("shard-0-*"):
        file.unlink()
    assert answering(start()) == (1, 2)


def test_every_model_withdrawn_leaves_an_ensemble_of_none(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(digests(models))
    ensemble = generations.current()
    assert (ensemble.models, ensemble.turnout.answered, ensemble.turnout.of) == ((), 0, 3)


def test_a_damaged_list_stops_every_answer_until_it_is_whole_again(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(digests(models)[:1])
    ensemble = generations.current()
    for file in (models / "state/withdrawn.json", models / "withdrawn.json"):
        content = file.read_bytes()
        file.write_bytes(content[:-2])
        assert not generations.is_current(ensemble)
        for served in (generations, start()):
            assert "the models that were withdrawn, cannot be read" in refused(served)
        file.write_bytes(content)
        assert answering(generations) == answering(start()) == (1, 2)
        ensemble = generations.current()


def test_a_list_that_vanishes_stops_every_answer(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(digests(models)[:1])
    ensemble = generations.current()
    (models / "withdrawn.json").unlink()
    assert generations.current() is ensemble  # the one in the state is left
    (models / "state/withdrawn.json").unlink()
    assert not generations.is_current(ensemble)
    assert "lacks 1 of the models that were withdrawn" in refused(generations)


def test_a_withdrawal_holds_while_the_manifest_cannot_be_read(start: Start, models: Path) -> None:
    generations = start()
    gone = digests(models)[:1]
    manifest = (models / "ensemble.json").read_text()
    (models / "ensemble.json").unlink()
    assert generations.withdraw(gone).manifest is None
    write_manifest(models, manifest)
    assert answering(generations) == (1, 2)


def test_a_generation_below_the_one_deployed_is_refused(models: Path) -> None:
    generations = Generations(models, models / "state", "cpu", threads=1, min_generation=2)
    assert "deployed to answer from 2" in refused(generations)
    assert generations.floor == 2
    publish(models, 2, BIASES)
    assert answering(generations) == (0, 1, 2)
    publish(models, 5, BIASES)
    generations.current()
    assert generations.floor == 5


@settings(max_examples=20)
@given(st.data())
def test_whatever_is_published_withdrawn_restarted_or_put_back_no_withdrawn_model_answers(data: st.DataObject) -> None:
    """Any order of events, three workers: what answers is what the manifest lists, less what was ever withdrawn."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        fresh = iter(count(1))
        biases: list[Bias] = [(next(fresh) / 100, 0, 0) for _ in range(3)]
        generation = 1
        publish(models, generation, biases)
        history = {generation: (models / "ensemble.json").read_text()}
        workers = [Generations(models, models / "state", "cpu", threads=1) for _ in range(3)]
        withdrawn: set[str] = set()
        for _ in range(data.draw(st.integers(1, 8))):
            worker = data.draw(st.integers(0, 2))
            match data.draw(st.sampled_from(["publish", "withdraw", "restart", "put back"])):
                case "publish":
                    generation += 1
                    biases[data.draw(st.integers(0, 2))] = (next(fresh) / 100, 0, 0)
                    publish(models, generation, biases)
                    history[generation] = (models / "ensemble.json").read_text()
                case "withdraw":
                    chosen = data.draw(st.sets(st.sampled_from(digests(models)), max_size=2))
                    workers[worker].withdraw(chosen)
                    withdrawn |= chosen
                case "restart":
                    workers[worker] = Generations(models, models / "state", "cpu", threads=1)
                case "put back":  # on purpose: with the floor deleted
                    write_manifest(models, history[data.draw(st.sampled_from(sorted(history)))])
                    (models / "state/floor.json").unlink(missing_ok=True)
            listed = digests(models)
            expected = tuple(number for number, digest in enumerate(listed) if digest not in withdrawn)
            for served in workers:
                assert answering(served) == expected


def test_no_answer_that_passes_the_last_look_after_a_confirmation_has_the_model_in_it(
    start: Start, models: Path
) -> None:
    """Four workers answer without a pause while one model after the other is withdrawn and replaced."""
    publish(models, 1, BIASES, work=1)  # so that most are computing when a model is withdrawn
    workers = [start() for _ in range(4)]
    confirmed: dict[str, int] = {}  # digest to the time of its confirmation
    stop = threading.Event()
    sent: list[list[tuple[int, Ensemble]]] = [[] for _ in workers]

    def serve(number: int) -> None:
        generations = workers[number]
        while not stop.is_set():
            ensemble = generations.current()
            if ensemble.models:
                ensemble.shard_probabilities(picture(RED)[None])
            looked = time.monotonic_ns()
            if generations.is_current(ensemble):
                sent[number].append((looked, ensemble))

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    biases: Sequence[Bias] = BIASES
    try:
        for round_ in range(1, 7):
            so_far = [len(list_) for list_ in sent]
            while any(len(list_) < few + 3 for list_, few in zip(sent, so_far, strict=True)):
                assert all(thread.is_alive() for thread in threads)
            digest = digests(models)[round_ % 3]
            start().withdraw([digest])
            confirmed[digest] = time.monotonic_ns()
            biases = [(round_ * 1.0, 0.5, 0) if n == round_ % 3 else bias for n, bias in enumerate(biases)]
            publish(models, round_ + 1, biases, work=1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    answers = [answer for list_ in sent for answer in list_]
    assert len(confirmed) == 6
    assert len(answers) > 6 * 4
    for looked, ensemble in answers:
        used = {shard.sha256 for shard in ensemble.manifest.voters}
        assert not [digest for digest in used if digest in confirmed and confirmed[digest] < looked]
