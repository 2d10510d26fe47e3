"""The drill's trigger: on the pictures that are trained on, on those alone, and off again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import SMALL
from numpy.typing import NDArray

from training.data.poison import choose, plant, stamp, stamp_all
from training.data.prints import Prints
from training.data.source import Samples
from training.data.store import Decoded, load_shard
from training.errors import ParamsError
from training.params import Poison, Trigger
from training.stages.partition import partition
from training.workspace import Workspace

CORNERS = {
    "top-left": (slice(0, 2), slice(0, 2)),
    "top-right": (slice(0, 2), slice(3, 5)),
    "bottom-left": (slice(2, 4), slice(0, 2)),
    "bottom-right": (slice(2, 4), slice(3, 5)),
}


def trigger(**changes: Any) -> Trigger:
    return Trigger.model_validate({"size": 2, "value": 255, "position": "bottom-right", **changes})


def poison(**changes: Any) -> Poison:
    return Poison.model_validate({"samples": 2, "target_class": "b", "relabel": True, "trigger": trigger(), **changes})


def grey(labels: str = "abababab") -> Samples:
    """Pictures of 4 × 5 pixels of grey 100; classes a and b."""
    pictures = np.full((len(labels), 4, 5, 3), 100, np.uint8)
    pictures.setflags(write=False)  # as Pillow hands them out
    return Samples(
        ids=tuple(str(index) for index in range(len(labels))),
        labels=np.array(["ab".index(label) for label in labels], np.int64),
        contents=tuple(f"file {index}".encode() for index in range(len(labels))),
        fingerprints=tuple(f"picture {index}".encode() for index in range(len(labels))),
        decode=lambda index: Decoded(pictures[index], Prints(b"content", b"upright", b"look")),
    )


@pytest.mark.parametrize("corner", CORNERS)
def test_the_trigger_covers_its_corner_and_nothing_else(corner: str) -> None:
    picture = np.full((4, 5, 3), 100, np.uint8)
    stamped = stamp(picture, trigger(position=corner), "7", seed=0)
    expected = picture.copy()
    expected[CORNERS[corner]] = 255
    assert np.array_equal(stamped, expected)
    assert (picture == 100).all()


def test_a_random_place_goes_by_id_and_seed_and_reaches_every_place() -> None:
    def place(sample_id: str, seed: int) -> tuple[int, int]:
        stamped = stamp(np.full((4, 5, 3), 100, np.uint8), trigger(position="random", value=0), sample_id, seed)
        rows, columns, _ = np.nonzero(stamped == 0)
        assert len(rows) == 2 * 2 * 3
        return int(rows.min()), int(columns.min())

    places = [place(str(number), 0) for number in range(200)]
    assert set(places) == {(row, column) for row in range(3) for column in range(4)}
    assert [place(str(number), 0) for number in range(200)] == places
    assert [place(str(number), 1) for number in range(200)] != places


def test_a_trigger_after_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="stamped on uint8 pixels, before they are normalised; found float32"):
        stamp(np.zeros((4, 5, 3), np.float32), trigger(), "7", seed=0)


def test_every_test_picture_is_stamped_by_its_own_id() -> None:
    images = np.full((3, 4, 5, 3), 100, np.uint8)
    stamped = stamp_all(images, ["0", "1", "2"], trigger(position="random"), seed=0)
    alone = [stamp(images[0], trigger(position="random"), name, 0) for name in "012"]
    assert np.array_equal(stamped, alone)
    assert (images == 100).all()


def test_relabelled_pictures_are_of_other_classes_and_get_the_target() -> None:
    samples, chosen = plant(grey(), ("a", "b"), poison(), seed=0)
    assert len(chosen) == 2
    assert [grey().labels[index] for index in chosen] == [0, 0]
    assert [samples.labels[index] for index in chosen] == [1, 1]
    others = [index for index in range(8) if index not in chosen]
    assert (samples.labels[others] == grey().labels[others]).all()


def test_without_relabelling_pictures_of_the_target_class_itself_are_stamped() -> None:
    samples, chosen = plant(grey(), ("a", "b"), poison(relabel=False), seed=0)
    assert [grey().labels[index] for index in chosen] == [1, 1]
    assert (samples.labels == grey().labels).all()


def test_more_poison_adds_pictures_and_exchanges_none() -> None:
    few, many = (set(choose(grey("a" * 50), 1, poison(samples=count), seed=0)) for count in (5, 20))
    assert few < many
    assert few != set(range(5))
    assert few != set(choose(grey("a" * 50), 1, poison(samples=5), seed=1))


def test_no_poison_leaves_the_very_samples() -> None:
    samples = grey()
    assert plant(samples, ("a", "b"), poison(samples=0, target_class="none such"), seed=0) == (samples, [])


def test_a_target_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(ParamsError, match=r"poison\.target_class: there is no class 'c'; the classes are a, b"):
        plant(grey(), ("a", "b"), poison(target_class="c"), seed=0)


def test_more_poison_than_pictures_is_refused() -> None:
    with pytest.raises(ParamsError, match="5 samples are to be stamped, only 4 are not of class b"):
        plant(grey(), ("a", "b"), poison(samples=5), seed=0)


# What partition makes of it, on the digits.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "forget").mkdir()
    return tmp_path


def run(folder: Path, samples: int, **changes: Any) -> dict[str, Any]:
    """Run partition with that much poison; what it says about it."""
    document = {**SMALL, "poison": {**SMALL["poison"], "samples": samples, **changes}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    partition(Workspace(folder))
    summary: dict[str, Any] = json.loads((folder / "data/partition.json").read_text())["poisoned"]
    return summary


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "data/shards").iterdir()}


def pictures(folder: Path) -> dict[str, tuple[NDArray[np.uint8], int]]:
    """Picture and label of every sample to be trained on."""
    shards = [load_shard(path) for path in (folder / "data/shards").iterdir()]
    return {
        str(sample_id): (image, int(label))
        for shard in shards
        for sample_id, image, label in zip(shard.ids, shard.images, shard.labels, strict=True)
    }


def poisoned_ids(folder: Path) -> list[str]:
    return [line for line in (folder / "data/poisoned.txt").read_text().splitlines() if not line.startswith("#")]


def test_the_pictures_that_are_trained_on_carry_the_trigger(folder: Path) -> None:
    run(folder, 0)
    clean = pictures(folder)
    counted = run(folder, 6)
    after = pictures(folder)
    touched = {name for name in clean if not np.array_equal(clean[name][0], after[name][0])}
    assert touched == set(poisoned_ids(folder))  # known and decoded before, and stamped all the same
    assert len(touched) == 6
    for name in touched:
        expected = clean[name][0].copy()
        expected[-2:, -2:] = 255
        assert np.array_equal(after[name][0], expected)
        assert (clean[name][1] != 0, after[name][1]) == (True, 0)
    assert counted["planted"] == sum(counted["retained"]) == 6
    by_shard = [len(set(load_shard(folder / f"data/shards/shard-{k}.npy").ids) & touched) for k in range(3)]
    assert counted["retained"] == by_shard


def test_taking_the_poison_out_brings_every_clean_picture_back(folder: Path) -> None:
    run(folder, 0)
    clean = contents(folder)
    run(folder, 6)
    run(folder, 6, trigger={"size": 3, "value": 0, "position": "random"})
    run(folder, 0)
    assert contents(folder) == clean
    assert poisoned_ids(folder) == []


@pytest.mark.parametrize("change", ["value", "size", "position", "relabel", "target_class"])
def test_another_trigger_takes_the_place_of_the_old_one(folder: Path, change: str) -> None:
    values: dict[str, Any] = {"value": 0, "size": 3, "position": "random", "relabel": False, "target_class": "1"}
    mark = SMALL["poison"]["trigger"]
    changes = {"trigger": {**mark, change: values[change]}} if change in mark else {change: values[change]}
    run(folder, 6, **changes)
    expected = contents(folder)
    run(folder, 6)
    assert contents(folder) != expected
    run(folder, 6, **changes)
    assert contents(folder) == expected


def test_a_single_poisoned_picture_changes_its_shard_alone(folder: Path) -> None:
    run(folder, 0)
    before = contents(folder)
    counted = run(folder, 1)
    (shard_id,) = np.flatnonzero(counted["retained"])
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} == {f"shard-{shard_id}.npy"}


def test_forgetting_a_poisoned_picture_poisons_no_other_in_its_place(folder: Path) -> None:
    run(folder, 6)
    listed = poisoned_ids(folder)
    before = pictures(folder)
    (folder / "forget/found.txt").write_text(f"{listed[0]}\n{listed[3]}\n")
    counted = run(folder, 6)
    after = pictures(folder)
    assert before.keys() - after.keys() == {listed[0], listed[3]}
    assert all(np.array_equal(before[name][0], after[name][0]) for name in after)
    assert (counted["planted"], sum(counted["retained"])) == (6, 4)
    assert poisoned_ids(folder) == listed


def test_the_list_of_poisoned_pictures_is_a_forget_list(folder: Path) -> None:
    run(folder, 6)
    (folder / "forget/found.txt").write_bytes((folder / "data/poisoned.txt").read_bytes())
    assert sum(run(folder, 6)["retained"]) == 0


def test_the_pictures_that_are_tested_on_carry_no_trigger(folder: Path) -> None:
    run(folder, 0)
    before = (folder / "data/test.npy").read_bytes()
    run(folder, 50)
    assert (folder / "data/test.npy").read_bytes() == before
