"""The Merkle root that a generation commits to: one digest for all the samples of a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence


def merkle_root(leaves: Iterable[bytes]) -> str:
    """Hex root over the sorted leaves, as in RFC 6962, section 2.1: leaves and inner nodes are hashed apart.

    Of no leaves: SHA-256 of nothing.
    """
    *_, top = levels(leaves)
    return top[0].hex() if top else hashlib.sha256().hexdigest()


def levels(leaves: Iterable[bytes]) -> Iterator[list[bytes]]:
    """From the hashes of the sorted leaves up to the root; one empty level where there is no leaf."""
    level = [leaf_hash(leaf) for leaf in sorted(leaves)]
    yield level
    while len(level) > 1:
        pairs = [level[start : start + 2] for start in range(0, len(level), 2)]
        # A node without a partner moves up as it is: the tree of RFC 6962 has the same roots.
        level = [node_hash(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        yield level


def merkle_path(leaves: Iterable[bytes], position: int) -> list[bytes]:
    """What proves that the leaf at this position, of the sorted ones, is in the tree: its partners, from below."""
    path = []
    for level in levels(leaves):
        partner = position ^ 1
        if partner < len(level) and len(level) > 1:
            path.append(level[partner])
        position //= 2
    return path


def root_of_path(leaf: bytes, position: int, count: int, path: Sequence[bytes]) -> str:
    """Hex root of the tree of ``count`` leaves that has ``leaf`` at ``position`` and these partners.

    Raises ValueError when there can be no such path.
    """
    if not 0 <= position < count:
        raise ValueError(f"position {position} of {count} leaves")
    node, left = leaf_hash(leaf), list(path)
    while count > 1:
        if position ^ 1 < count:
            if not left:
                raise ValueError("the path is too short")
            partner = left.pop(0)
            node = node_hash(partner, node) if position % 2 else node_hash(node, partner)
        position, count = position // 2, (count + 1) // 2
    if left:
        raise ValueError("the path is too long")
    return node.hex()


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
