from hypothesis import given
from hypothesis import strategies as st

from training.placement import assign_slots

ids = st.lists(st.text(min_size=1), unique=True, max_size=50)
counts = st.integers(1, 20)
seeds = st.integers(0, 2**63 - 1)


@given(ids, counts, counts, seeds)
def test_every_sample_has_a_slot_in_range(sample_ids: list[str], shards: int, slices: int, seed: int) -> None:
    slots = assign_slots(sample_ids, shards, slices, seed)
    assert len(slots) == len(sample_ids)
    assert all(0 <= shard < shards and 0 <= slice_id < slices for shard, slice_id in slots)


@given(ids.filter(len), counts, counts, seeds, st.data())
def test_forgetting_or_adding_a_sample_moves_no_other(
    sample_ids: list[str], shards: int, slices: int, seed: int, data: st.DataObject
) -> None:
    forgotten = data.draw(st.integers(0, len(sample_ids) - 1))
    before = assign_slots(sample_ids, shards, slices, seed)
    after = assign_slots(sample_ids[:forgotten] + sample_ids[forgotten + 1 :], shards, slices, seed)
    assert after == before[:forgotten] + before[forgotten + 1 :]


def test_the_slot_is_a_fixed_function_of_id_and_seed() -> None:
    # sha256("0\x00cat/1.png"), first and second eight bytes, mod 5 and mod 10; worked out by hand in
    # the shell: printf '0\0cat/1.png' | sha256sum
    digest = "16df75327fcf0fcf50da278bc03baf4c"
    expected = (int(digest[:16], 16) % 5, int(digest[16:32], 16) % 10)
    assert assign_slots(["cat/1.png"], 5, 10, seed=0) == [expected]


def test_another_seed_deals_anew() -> None:
    sample_ids = [str(number) for number in range(100)]
    assert assign_slots(sample_ids, 5, 5, seed=0) != assign_slots(sample_ids, 5, 5, seed=1)


def test_slots_are_even_within_chance() -> None:
    # 50,000 samples in 5 shards: 10,000 each, standard deviation sqrt(50000 * .2 * .8) = 89.
    slots = assign_slots([str(number) for number in range(50_000)], 5, 10, seed=0)
    for shard_id in range(5):
        assert abs(sum(shard == shard_id for shard, _ in slots) - 10_000) < 5 * 89
