"""The Merkle root of a shard's samples."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.chain.merkle import merkle_path, merkle_root, root_of_path


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_the_root_of_three_leaves_is_worked_out_by_hand() -> None:
    a, b, c = (sha(b"\0" + leaf) for leaf in (b"a", b"b", b"c"))
    assert merkle_root([b"c", b"a", b"b"]) == sha(b"\1" + sha(b"\1" + a + b) + c).hex()


def test_one_leaf_and_none() -> None:
    assert merkle_root([b"a"]) == sha(b"\0a").hex()
    assert merkle_root([]) == sha(b"").hex()


def rfc6962(leaves: list[bytes]) -> bytes:
    """The definition, word for word: split at the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return sha(b"\0" + leaves[0])
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1" + rfc6962(leaves[:half]) + rfc6962(leaves[half:]))


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_it_is_the_tree_of_rfc_6962(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == rfc6962(sorted(leaves)).hex()


@given(st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=20), st.data())
def test_the_root_changes_with_every_leaf(leaves: set[bytes], data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(sorted(leaves)))
    assert merkle_root(leaves - {one}) != merkle_root(leaves)


def test_the_path_of_the_third_of_three_leaves_is_worked_out_by_hand() -> None:
    a, b = (sha(b"\0" + leaf) for leaf in (b"a", b"b"))
    assert merkle_path([b"a", b"b", b"c"], 2) == [sha(b"\1" + a + b)]
    assert merkle_path([b"a", b"b", b"c"], 0) == [b, sha(b"\0c")]


@given(st.sets(st.binary(min_size=18, max_size=18), min_size=1, max_size=70), st.data())
def test_a_path_leads_to_the_root_from_its_own_leaf_and_place_alone(leaves: set[bytes], data: st.DataObject) -> None:
    ordered = sorted(leaves)
    position = data.draw(st.integers(0, len(ordered) - 1))
    path, root = merkle_path(ordered, position), merkle_root(ordered)
    assert root_of_path(ordered[position], position, len(ordered), path) == root
    other = data.draw(st.integers(0, len(ordered) - 1).filter(lambda place: place != position) | st.none())
    if other is not None:
        assert root_of_path(ordered[other], position, len(ordered), path) != root
        with suppress(ValueError):  # a path of another length
            assert root_of_path(ordered[position], other, len(ordered), path) != root


@pytest.mark.parametrize(("position", "length"), [(3, 2), (-1, 2), (0, 1), (0, 3)])
def test_a_path_that_cannot_be_is_refused(position: int, length: int) -> None:
    with pytest.raises(ValueError, match=r"position|path"):
        root_of_path(b"a", position, 3, [b"x"] * length)
