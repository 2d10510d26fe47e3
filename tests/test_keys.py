from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.code import code_digest
from training.keys import RECIPE_CODE, key_chain, recipe_key
from training.params import Params, load_params
from training.shards import Shard

PARAMS = load_params(Path(__file__).parents[1] / "profiles/digits.yaml")


def shard_of(slices: list[int], pixel: int = 7) -> Shard:
    count = len(slices)
    return Shard(
        ids=np.array([f"sample-{row}" for row in range(count)], np.str_),
        slices=np.array(sorted(slices), np.int64),
        images=np.full((count, 2, 2, 3), pixel, np.uint8),
        labels=np.arange(count) % 3,
        fingerprints=np.array(["f"] * count, np.str_),
    )


def without(shard: Shard, row: int) -> Shard:
    return Shard(**{name: np.delete(array, row, axis=0) for name, array in vars(shard).items()})


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
        changed.images[row, 1, 1, 2] ^= 1
    else:
        changed.labels[row] += 1
    first = int(shard.slices[row])
    before, after = key_chain("recipe", shard, 5), key_chain("recipe", changed, 5)
    assert after[:first] == before[:first]
    assert all(new != old for new, old in zip(after[first:], before[first:], strict=True))


def test_a_sample_that_moves_between_slices_changes_the_keys() -> None:
    assert key_chain("recipe", shard_of([0, 0, 1]), 2)[0] != key_chain("recipe", shard_of([0, 1, 1]), 2)[0]


def test_an_empty_slice_has_a_key_of_its_own() -> None:
    keys = key_chain("recipe", shard_of([0, 2]), 3)
    assert len(set(keys)) == 3


def recipe(params: Params = PARAMS, shard_id: int = 0, classes: int = 10, weights: str = "none") -> str:
    return recipe_key(params, shard_id, classes, weights)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs_per_slice", 7),
        ("batch_size", 16),
        ("learning_rate", 0.3),
        ("momentum", 0.5),
        ("nesterov", False),
        ("weight_decay", 0.1),
        ("schedule", "constant"),
        ("label_smoothing", 0.2),
        ("augmentation", "flip-crop"),
        ("precision", "bf16"),
    ],
)
def test_every_training_parameter_is_in_the_recipe(name: str, value: Any) -> None:
    assert getattr(PARAMS.training, name) != value
    other = PARAMS.model_copy(update={"training": PARAMS.training.model_copy(update={name: value})})
    assert recipe(other) != recipe()


def test_the_list_above_is_complete() -> None:
    assert len(type(PARAMS.training).model_fields) == 10


def test_seed_shard_network_classes_size_slices_and_initial_weights_are_in_the_recipe() -> None:
    others = [
        recipe(PARAMS.model_copy(update={"seed": 1})),
        recipe(shard_id=1),
        recipe(PARAMS.model_copy(update={"network": PARAMS.network.model_copy(update={"name": "resnet18"})})),
        recipe(classes=11),
        recipe(PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"image_size": 8})})),
        recipe(PARAMS.model_copy(update={"sisa": PARAMS.sisa.model_copy(update={"slices": 6})})),
        recipe(weights="0123"),
    ]
    assert len({recipe(), *others}) == 8


def test_device_and_aggregation_are_not() -> None:
    sisa = PARAMS.sisa.model_copy(update={"aggregation": "vote"})
    assert recipe(PARAMS.model_copy(update={"device": "cpu", "sisa": sisa})) == recipe()


CODE = '''
"""A module."""
def double(x):
    """Twice."""
    return x * 2  # two
'''


def test_comments_docstrings_and_formatting_do_not_change_the_code_digest() -> None:
    assert code_digest(CODE) == code_digest(
        "def double( x ):\n\n  'Other words.'\n  return (x*2)\n".replace("def", '"Mod"\ndef', 1)
    )


def test_another_number_changes_the_code_digest() -> None:
    assert code_digest(CODE) != code_digest(CODE.replace("* 2", "* 3"))


def test_the_recipe_covers_network_loop_and_start() -> None:
    assert [path.name for path in RECIPE_CODE] == ["network.py", "loop.py", "start.py"]
    assert all(path.is_file() for path in RECIPE_CODE)
