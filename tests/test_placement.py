import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.placement import assign_slots, placement_key, placement_names
from training.errors import ParamsError
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


def test_samples_without_a_subject_lie_where_they_lay_before_there_were_subjects() -> None:
    # Of version 0.2.0, five shards of ten slices, seed 0.
    sample_ids = ["0", "1", "2", "3", "4", "5", "6", "7", "cat/1.png", "dog/2.jpg"]
    slots = [(0, 8), (3, 5), (4, 4), (1, 0), (2, 5), (3, 0), (1, 4), (2, 5), (1, 0), (0, 5)]
    assert assign_slots(placement_names(sample_ids, [""] * 10), 5, 10, seed=0) == slots


def test_a_subjects_slot_is_a_fixed_function_of_its_name() -> None:
    # printf '0\0shard\0subject:ann' | sha256sum, the first eight bytes mod 5, and of the same with "slice", mod 10.
    assert assign_slots(placement_names(["7"], ["ann"]), 5, 10, seed=0) == [
        (0xBA785ABCF800E002 % 5, 0x6AE06DA607EB6413 % 10)
    ]


# Samples by id, each with its subject or none.
samples = st.dictionaries(st.text(min_size=1), st.sampled_from(["", "ann", "bob", "cai"]), min_size=1, max_size=50)
secrets = st.none() | st.binary(min_size=32, max_size=32)


def slots_of(of: dict[str, str], shards: int, slices: int, seed: int, key: bytes | None) -> dict[str, tuple[int, int]]:
    names = placement_names(of.keys(), of.values())
    return dict(zip(of, assign_slots(names, shards, slices, seed, key), strict=True))


@given(samples, counts, counts, seeds, secrets)
def test_all_samples_of_a_subject_lie_in_one_slot(
    of: dict[str, str], shards: int, slices: int, seed: int, key: bytes | None
) -> None:
    slots = slots_of(of, shards, slices, seed, key)
    for subject in set(of.values()) - {""}:
        assert len({slot for sample_id, slot in slots.items() if of[sample_id] == subject}) == 1


@given(samples, st.tuples(counts, counts, seeds, secrets), st.data())
def test_adding_or_forgetting_samples_or_subjects_moves_no_other_one(
    of: dict[str, str], how: tuple[int, int, int, bytes | None], data: st.DataObject
) -> None:
    left = data.draw(st.sets(st.sampled_from(sorted(of))))
    before = slots_of(of, *how)
    after = slots_of({sample_id: of[sample_id] for sample_id in left}, *how)
    assert after == {sample_id: before[sample_id] for sample_id in left}


@given(st.integers(0, 49), st.text(min_size=1))
def test_a_sample_that_is_given_to_another_subject_moves_alone(number: int, subject: str) -> None:
    of = {str(sample_id): f"subject {sample_id // 5}" for sample_id in range(50)}
    before, after = (slots_of(each, 5, 10, 0, None) for each in (of, {**of, str(number): subject}))
    assert {sample_id for sample_id in of if before[sample_id] != after[sample_id]} <= {str(number)}


def test_a_key_places_by_hmac() -> None:
    # printf '0\0shard\0subject:ann' | openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk, and with "slice".
    assert assign_slots(["subject:ann"], 5, 10, seed=0, key=b"k" * 32) == [
        (0x7ECC99FC2FFAF781 % 5, 0xB06041935217BAE8 % 10)
    ]


@given(seeds, st.binary(min_size=32, max_size=64), st.binary(min_size=32, max_size=64))
def test_every_key_places_otherwise(seed: int, key: bytes, other: bytes) -> None:
    # 100 names of 50 slots are alike under two keys with probability 50^-100. (HMAC pads a key with zeros.)
    sample_ids = [str(number) for number in range(100)]
    slots = assign_slots(sample_ids, 5, 10, seed, key)
    assert slots == assign_slots(sample_ids, 5, 10, seed, key)
    assert slots != assign_slots(sample_ids, 5, 10, seed)
    assert (slots == assign_slots(sample_ids, 5, 10, seed, other)) == (key.rstrip(b"\0") == other.rstrip(b"\0"))


SECRET = "k" * 32
DIGEST = hashlib.sha256(b"sisa placement key\0" + SECRET.encode()).hexdigest()


def test_only_the_key_that_the_parameters_name_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SISA_PLACEMENT_KEY", raising=False)
    assert placement_key("none") is None
    monkeypatch.setenv("SISA_PLACEMENT_KEY", SECRET)
    assert placement_key(DIGEST) == SECRET.encode()


@pytest.mark.parametrize(
    ("secret", "expected", "reasons"),
    [
        (
            "",
            DIGEST,
            [f"by a secret key (data.placement_key_digest: {DIGEST[:16]}…)", "is not set", "Set it to that key"],
        ),
        (SECRET, "none", ["placed by no key", "Unset it", f"`placement_key_digest: {DIGEST}`", "retrains everything"]),
        ("x" * 32, DIGEST, [f"placed by the key {DIGEST[:16]}…", "is another one", "Set it to that key"]),
        ("k" * 31, "none", ["31 characters, expected 32 or more"]),
    ],
    ids=["missing", "new", "changed", "short"],
)
def test_a_missing_a_new_a_changed_and_a_short_key_are_named(
    monkeypatch: pytest.MonkeyPatch, secret: str, expected: str, reasons: list[str]
) -> None:
    monkeypatch.setenv("SISA_PLACEMENT_KEY", secret)
    with pytest.raises(ParamsError) as caught:
        placement_key(expected)
    assert all(reason in str(caught.value) for reason in reasons)
    assert not secret or secret not in str(caught.value)  # it is a secret


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
