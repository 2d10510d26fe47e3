"""The one seeded hash: whatever is chosen by chance, but must not move when other samples come or go.

It is part of the recipe, since seeds of training come from it. It does not need torch.
"""

from __future__ import annotations

import hashlib


def keyed_hash(seed: int, purpose: str, name: object) -> bytes:
    """32 bytes that depend on the seed, what they are for, and what they are of, and on nothing else.

    ``purpose`` keeps choices apart that must not follow one another, as "shard" and "slice". Raises
    ValueError when it holds a NUL, which ends it.
    """
    if "\0" in purpose:
        raise ValueError(f"a purpose holds no NUL, found {purpose!r}")
    return hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode()).digest()


def keyed_number(seed: int, purpose: str, name: object, below: int) -> int:
    """A whole number in [0, ``below``), ``below`` at most 2**32: evenly spread but for one part in 2**32."""
    return int.from_bytes(keyed_hash(seed, purpose, name)[:8]) % below if below > 1 else 0
