import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.placement import assign_slots
from training.recipe.common.keyed_hash import keyed_hash, keyed_number

ids = st.lists(st.text(min_size=1), unique=True, max_size=50)
counts = st.integers(1, 20)
seeds = st.integers(0, 2**63 - 1)


@given(ids, counts, counts, seeds)
def test_every_sample_has_a_slot_in_range(sample_ids: list[str], shards: int, slices: int, seed: int) -> None:
    slots = assign_slots(sample_ids, shards, slices, seed)
    assert len(slots) == len(sample_ids)
    assert all(0 <= shard < shards and 0 <= slice_id < slices for shard, slice_id in slots)


@given(ids.filter(len), counts, counts, seeds, st.data())
def test_forgetting_or_adding_a_sample_moves_no_other_one(
    sample_ids: list[str], shards: int, slices: int, seed: int, data: st.DataObject
) -> None:
    forgotten = data.draw(st.integers(0, len(sample_ids) - 1))
    before = assign_slots(sample_ids, shards, slices, seed)
    after = assign_slots(sample_ids[:forgotten] + sample_ids[forgotten + 1 :], shards, slices, seed)
    assert after == before[:forgotten] + before[forgotten + 1 :]


def test_the_slot_is_a_fixed_function_of_id_and_seed() -> None:
    # The first eight bytes of printf '0\0shard\0cat/1.png' | sha256sum, mod 5, and of the same with "slice", mod 10.
    assert assign_slots(["cat/1.png"], 5, 10, seed=0) == [(0xA13423F04C888F80 % 5, 0x7C82A1C6B6DB8648 % 10)]


def test_another_seed_partitions_otherwise() -> None:
    sample_ids = [str(number) for number in range(100)]
    assert assign_slots(sample_ids, 5, 5, seed=0) != assign_slots(sample_ids, 5, 5, seed=1)


def test_slots_are_even_within_chance() -> None:
    # 50,000 samples in 5 shards: 10,000 each, standard deviation sqrt(50000 * .2 * .8) = 89.
    slots = assign_slots([str(number) for number in range(50_000)], 5, 10, seed=0)
    for shard_id in range(5):
        assert abs(sum(shard == shard_id for shard, _ in slots) - 10_000) < 5 * 89


@given(seeds, st.text().filter(lambda text: "\0" not in text), st.text(), st.integers(1, 2**32))
def test_a_keyed_number_is_in_range_and_its_purpose_matters(seed: int, purpose: str, name: str, below: int) -> None:
    assert 0 <= keyed_number(seed, purpose, name, below) < below
    assert keyed_hash(seed, purpose, name) == keyed_hash(seed, purpose, name)
    assert keyed_hash(seed, purpose, name) != keyed_hash(seed, f"{purpose} ", name)
    assert keyed_hash(seed, purpose, name) != keyed_hash(seed + 1, purpose, name)


def test_a_purpose_cannot_run_into_a_name() -> None:
    with pytest.raises(ValueError, match="a purpose holds no NUL"):
        keyed_hash(0, "shard\0x", "y")
