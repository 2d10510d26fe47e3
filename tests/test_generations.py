"""Which generation may answer, without a server; tests/test_swap.py does it under fire."""

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from server import FLAT, RED, picture, publish, write_manifest

import serving.generations
from serving.ensemble.manifest import EnsembleUnavailable
from serving.generations import Generations

GREENISH = (0, 20, 0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish(tmp_path / "models", 1, [FLAT, FLAT, FLAT])
    return tmp_path / "models"


@pytest.fixture
def start(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Generations]:
    monkeypatch.setattr(serving.generations, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(serving.generations, "MISSING_SECONDS", 0.2)
    return lambda: Generations(models, models / "state", "cpu", threads=2)


Start = Callable[[], Generations]


def label(generations: Generations) -> int:
    probabilities = generations.current().shard_probabilities(picture(RED)[None])
    return int(probabilities.mean(axis=0).argmax())


def refused(generations: Generations) -> str:
    with pytest.raises(EnsembleUnavailable) as caught:
        generations.current()
    assert generations.loaded is None
    return str(caught.value)


def test_a_new_generation_is_picked_up_and_the_old_one_is_no_longer_current(start: Start, models: Path) -> None:
    generations = start()
    first = generations.current()
    assert generations.is_current(first)
    assert label(generations) == 0
    publish(models, 2, [GREENISH, GREENISH, FLAT])
    assert not generations.is_current(first)
    assert label(generations) == 1
    assert generations.current().generation == 2


def test_only_changed_shards_are_opened(start: Start, models: Path) -> None:
    generations = start()
    before = generations.current()
    publish(models, 2, [FLAT, GREENISH, FLAT])
    after = generations.current()
    kept = [old is new for old, new in zip(before.models, after.models, strict=True)]
    assert kept == [True, False, True]


def test_a_manifest_or_a_list_that_is_missing_for_a_moment_is_waited_for(start: Start, models: Path) -> None:
    generations = start()
    generations.withdraw(["0" * 64])
    first = generations.current()
    for name in ("ensemble.json", "state/withdrawn.json", "withdrawn.json"):
        (models / name).rename(models / "elsewhere")
        back = threading.Timer(0.05, (models / "elsewhere").rename, [models / name])
        back.start()
        assert generations.current().manifest == first.manifest
        back.join()


def test_a_manifest_that_stays_away_is_refused_after_a_moment_and_then_at_once(
    start: Start, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = start()
    monkeypatch.setattr(serving.generations, "MISSING_SECONDS", 1.0)
    generations.current()
    (models / "ensemble.json").rename(models / "elsewhere")
    begun = time.monotonic()
    assert "is missing" in refused(generations)
    assert time.monotonic() - begun >= 1
    again = time.monotonic()
    assert "is missing" in refused(generations)
    assert time.monotonic() - again < 1
    (models / "elsewhere").rename(models / "ensemble.json")
    assert generations.current().generation == 1


def test_a_shard_may_begin_to_abstain(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    publish(models, 2, [FLAT, None, FLAT])
    assert generations.current().manifest.shard_ids == (0, 2)


def test_models_of_another_size_are_all_opened(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    publish(models, 2, [FLAT, FLAT, FLAT], side=8)
    assert generations.current().shard_probabilities(picture(RED, 8)[None]).shape == (3, 1, 3)


def test_the_same_manifest_touched_or_copied_does_not_stop_serving(start: Start, models: Path) -> None:
    generations = start()
    ensemble = generations.current()
    os.utime(models / "ensemble.json")
    assert not generations.is_current(ensemble)
    assert generations.current() is ensemble
    shutil.copy(models / "ensemble.json", models / "copy")
    (models / "copy").replace(models / "ensemble.json")
    assert generations.current() is ensemble


def test_an_older_generation_is_never_served_again_not_even_after_a_restart(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    old = (models / "ensemble.json").read_text()
    publish(models, 5, [FLAT, FLAT, GREENISH])
    generations.current()
    write_manifest(models, old)
    for served in (generations, start()):
        assert "generation 1 is published, but 5 has been seen" in refused(served)
    (models / "state/floor.json").unlink()  # what the message says to do when going back is meant
    assert start().current().generation == 1


def test_an_old_file_renamed_back_with_all_its_times_is_noticed(start: Start, models: Path) -> None:
    """Inode, size and modification time are those of the file that was served before."""
    generations, other = start(), start()
    generations.current()
    other.current()
    (models / "ensemble.json").rename(models / "kept")
    publish(models, 2, [FLAT, FLAT, GREENISH])
    other.current()
    (models / "kept").replace(models / "ensemble.json")
    assert "generation 1 is published, but 2 has been seen" in refused(generations)


def test_the_same_generation_with_other_content_is_refused(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    publish(models, 1, [GREENISH, FLAT, FLAT])
    for served in (generations, start()):
        assert "generation 1 is published with another manifest than the one seen" in refused(served)


def test_a_generation_that_cannot_be_opened_still_raises_the_floor(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    old = (models / "ensemble.json").read_text()
    publish(models, 2, [FLAT, FLAT, GREENISH])
    for file in (models / "onnx").glob("shard-2-*"):
        file.unlink()
    assert "cannot be read" in refused(generations)
    write_manifest(models, old)
    assert "but 2 has been seen" in refused(generations)


def of_generation(models: Path, generation: int) -> str:
    """The published manifest with another number."""
    return json.dumps(json.loads((models / "ensemble.json").read_text()) | {"generation": generation})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda models: (models / "ensemble.json").unlink(), "is missing"),
        (lambda models: write_manifest(models, '{"generation": 2'), "is not a manifest"),
        (lambda models: write_manifest(models, "{}"), "aggregation: Field required"),
        (lambda models: write_manifest(models, of_generation(models, 0)), "generation: Input should be greater"),
        (lambda models: publish(models, 2, [None, None]), "lists no shard that has a model"),
    ],
)
def test_a_damaged_manifest_is_refused_until_a_sound_one_comes(
    start: Start, models: Path, damage: Callable[[Path], None], reason: str
) -> None:
    generations = start()
    generations.current()
    damage(models)
    assert reason in refused(generations)
    publish(models, 3, [FLAT])
    assert generations.current().generation == 3


def test_a_model_that_is_not_the_one_listed_is_refused_and_found_when_it_comes(start: Start, models: Path) -> None:
    generations = start()
    generations.current()
    publish(models, 2, [FLAT, FLAT, GREENISH])
    file = models / json.loads((models / "ensemble.json").read_text())["shards"][2]["file"]
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert "has sha256" in refused(generations)
    file.write_bytes(content)
    assert generations.current().generation == 2


def test_a_file_that_is_not_a_model_is_refused(start: Start, models: Path) -> None:
    import hashlib

    manifest = json.loads((models / "ensemble.json").read_text())
    (models / "onnx/bad.onnx").write_bytes(b"not a model")
    manifest["generation"] = 2
    manifest["shards"][0] |= {"file": "onnx/bad.onnx", "sha256": hashlib.sha256(b"not a model").hexdigest()}
    write_manifest(models, json.dumps(manifest))
    assert "bad.onnx cannot be opened" in refused(start())


def test_a_floor_that_cannot_be_read_stops_serving_and_says_so(start: Start, models: Path) -> None:
    (models / "state").mkdir()
    (models / "state/floor.json").write_text("{")
    assert "floor.json, the highest generation seen, cannot be read" in refused(start())


def test_a_floor_that_cannot_be_written_stops_serving_and_leaves_nothing_behind(
    start: Start, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    generations = start()
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        for _ in range(2):
            assert "No space left" in refused(generations)
    assert not [path for path in (models / "state").iterdir() if path.suffix != ".lock"]
    assert generations.current().generation == 1


def test_the_reason_is_logged_once_not_for_every_request(
    start: Start, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generations = start()
    (models / "ensemble.json").unlink()
    with caplog.at_level(logging.ERROR, "serving"):
        for _ in range(3):
            refused(generations)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["not ready"]


def test_a_failed_load_is_not_repeated_at_once(start: Start, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.generations, "RETRY_SECONDS", 3600.0)
    generations = start()
    (file,) = (models / "onnx").glob("shard-2-*")
    content = file.read_bytes()
    file.unlink()
    refused(generations)
    file.write_bytes(content)
    assert "cannot be read" in refused(generations)  # the remembered failure
    publish(models, 2, [FLAT, FLAT, FLAT])
    assert generations.current().generation == 2  # another manifest is tried at once


def test_workers_that_load_at_the_same_time_agree_on_the_floor(start: Start, models: Path) -> None:
    workers = [start() for _ in range(4)]
    stop = threading.Event()
    seen: list[list[int]] = [[] for _ in workers]

    def serve(number: int) -> None:
        while not stop.is_set():
            seen[number].append(workers[number].current().generation)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(2, 12):
        publish(models, generation, [FLAT, (0, generation, 0), FLAT])
    for worker in workers:
        while worker.current().generation < 11:
            pass
    stop.set()
    for thread in threads:
        thread.join()
    assert all(history == sorted(history) for history in seen)
    assert json.loads((models / "state/floor.json").read_text())["generation"] == 11


def test_asking_for_cuda_where_there_is_none_is_an_error_at_start(models: Path) -> None:
    with pytest.raises(EnsembleUnavailable, match="provider cuda was asked for"):
        Generations(models, models / "state", "cuda", threads=1)


def test_answers_are_those_of_the_models(start: Start) -> None:
    probabilities = start().current().shard_probabilities(picture(RED)[None])
    expected = np.exp([10, 0, 0]) / np.exp([10, 0, 0]).sum()
    assert probabilities[0, 0] == pytest.approx(expected, rel=1e-5)
