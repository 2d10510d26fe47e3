"""The key chain and the recipe that it begins with."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.chain.keys import RECIPE_FOLDER, key_chain, make_recipe, recipe_code
from training.data.store import Shard, row_type
from training.learning import Sgd
from training.params import Params, load_params

PARAMS = load_params(Path(__file__).parents[1] / "profiles/digits.yaml")


def shard_of(slices: list[int], pixel: int = 7) -> Shard:
    rows = np.zeros(len(slices), row_type(2, 10))
    rows["id"] = [f"sample-{number}" for number in range(len(slices))]
    rows["slice"] = sorted(slices)
    rows["label"] = np.arange(len(slices)) % 3
    rows["image"] = pixel
    rows["digest"] = np.frombuffer(hashlib.sha256(bytes([pixel] * 12)).digest(), np.uint8)
    return Shard(Path("shard-0.npy"), rows)


def without(shard: Shard, row: int) -> Shard:
    return Shard(shard.path, np.delete(shard.rows, row))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_forgetting_any_sample_changes_exactly_the_keys_from_its_slice_on(
    slices: list[int], data: st.DataObject
) -> None:
    shard = shard_of(slices)
    row = data.draw(st.integers(0, len(slices) - 1))  # to the last: no remainder is left out
    first = int(shard.slices[row])
    before, after = key_chain("recipe", shard, 5), key_chain("recipe", without(shard, row), 5)
    assert after[:first] == before[:first]
    assert all(new != old for new, old in zip(after[first:], before[first:], strict=True))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_a_changed_pixel_or_label_changes_the_keys_from_its_slice_on(slices: list[int], data: st.DataObject) -> None:
    shard, changed = shard_of(slices), shard_of(slices)
    row = data.draw(st.integers(0, len(slices) - 1))
    if data.draw(st.booleans()):
        changed.rows["digest"][row, 31] ^= 1
    else:
        changed.rows["label"][row] += 1
    first = int(shard.slices[row])
    before, after = key_chain("recipe", shard, 5), key_chain("recipe", changed, 5)
    assert after[:first] == before[:first]
    assert all(new != old for new, old in zip(after[first:], before[first:], strict=True))


def test_a_sample_that_moves_between_slices_changes_the_keys() -> None:
    assert key_chain("recipe", shard_of([0, 0, 1]), 2)[0] != key_chain("recipe", shard_of([0, 1, 1]), 2)[0]


def test_an_empty_slice_has_a_key_of_its_own() -> None:
    keys = key_chain("recipe", shard_of([0, 2]), 3)
    assert len(set(keys)) == 3


def test_the_first_key_is_worked_out_by_hand() -> None:
    # One sample: its digest covers id, label and the digest of its pixels; the key covers the recipe and that.
    pixels = hashlib.sha256(bytes([7] * 12)).digest()
    sample = hashlib.sha256(b"sample-0\x000\x00" + pixels).digest()
    assert key_chain("recipe", shard_of([0]), 1) == [hashlib.sha256(b"recipe" + sample).hexdigest()]


def recipe(params: Params = PARAMS, shard_id: int = 0, classes: int = 10, weights: str = "none") -> str:
    return make_recipe(params, shard_id, classes, weights).key


# Another value for each key of the section `training`.
CHANGED: dict[str, Any] = {
    "epochs_per_slice": 7,
    "batch_size": 16,
    "learning_rate": 0.3,
    "momentum": 0.5,
    "nesterov": False,
    "weight_decay": 0.1,
    "schedule": "constant",
    "label_smoothing": 0.2,
    "augmentation": "flip-crop",
    "precision": "bf16",
    "threads": 3,
}


@pytest.mark.parametrize("name", [name for name in Sgd.model_fields if name != "method"])
def test_every_training_parameter_is_in_the_recipe(name: str) -> None:
    assert getattr(PARAMS.training, name) != CHANGED[name]
    other = PARAMS.model_copy(update={"training": PARAMS.training.model_copy(update={name: CHANGED[name]})})
    assert recipe(other) != recipe()


def test_seed_shard_network_classes_size_slices_and_initial_weights_are_in_the_recipe() -> None:
    half = PARAMS.network.model_copy(update={"normalisation": "half"})
    changed = [
        recipe(PARAMS.model_copy(update={"network": half})),
        recipe(PARAMS.model_copy(update={"seed": 1})),
        recipe(shard_id=1),
        recipe(PARAMS.model_copy(update={"network": PARAMS.network.model_copy(update={"name": "resnet18"})})),
        recipe(classes=11),
        recipe(PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"image_size": 8})})),
        recipe(PARAMS.model_copy(update={"sisa": PARAMS.sisa.model_copy(update={"slices": 6})})),
        recipe(weights="0123"),
    ]
    assert len({recipe(), *changed}) == 9


def test_device_aggregation_and_a_flip_of_what_is_judged_are_not() -> None:
    sisa = PARAMS.sisa.model_copy(update={"aggregation": "vote"})
    network = PARAMS.network.model_copy(update={"test_time_flip": True})
    assert recipe(PARAMS.model_copy(update={"device": "cpu", "sisa": sisa, "network": network})) == recipe()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the recipe's code."""
    folder = tmp_path / "recipe"
    shutil.copytree(RECIPE_FOLDER, folder)
    return folder


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_changed_head_retrains_no_network_and_the_other_way_round(code: Path) -> None:
    network, head = recipe_code(code, "network"), recipe_code(code, "head")
    replace(code / "head/ridge.py", "HALVINGS = 40", "HALVINGS = 41")
    assert recipe_code(code, "network") == network
    assert recipe_code(code, "head") != head
    replace(code / "network/resnet9.py", "Scale(0.125)", "Scale(0.25)")
    assert recipe_code(code, "network") != network


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("common/schedule.py", "WARM_UP = 0.2", "WARM_UP = 0.3"),
        ("common/shard.py", "slice_id - 1 != trained", "slice_id - 2 != trained"),  # another predecessor
        ("common/slices.py", 'side="right"', 'side="left"'),  # other samples
        ("common/keyed_hash.py", "sha256", "sha512"),
        ("network/initial.py", '"initialisation"', '"start"'),
    ],
)
def test_code_that_decides_weights_is_in_the_recipe(code: Path, file: str, old: str, new: str) -> None:
    before = recipe_code(code, "network")
    replace(code / file, old, new)
    assert recipe_code(code, "network") != before


def test_a_comment_in_the_code_is_not(code: Path) -> None:
    before = recipe_code(code, "network")
    replace(code / "common/loop.py", "return losses", "return losses  # a remark")
    assert recipe_code(code, "network") == before
