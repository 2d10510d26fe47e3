"""The Merkle root that a generation commits to: one digest for all the samples of a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def merkle_root(leaves: Iterable[bytes]) -> str:
    """Hex root over the sorted leaves, as in RFC 6962, section 2.1: leaves and inner nodes are hashed apart.

    Of no leaves: SHA-256 of nothing.
    """
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in sorted(leaves)]
    if not level:
        return hashlib.sha256().hexdigest()
    while len(level) > 1:
        pairs = [level[start : start + 2] for start in range(0, len(level), 2)]
        # A node without a partner moves up as it is: the tree of RFC 6962 has the same roots.
        level = [hashlib.sha256(b"\1" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0].hex()
