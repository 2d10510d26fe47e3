"""Where a sample goes: its shard and slice, by a seeded hash of its subject's name, or of its own id where it has none.

SISA partitions the training set into shards and slices (Bourtoule et al., "Machine Unlearning", IEEE
S&P 2021, section IV). A hash instead of a shuffled list is what makes forgetting local: a shuffle
depends on how many samples there are, so deleting one would move the others. By subject, since a person
is forgotten as a whole: scattered by picture, somebody's 20 pictures would touch nearly every shard.

The seed is no secret, so whoever may choose ids could have all of theirs in the first slice of one shard,
the most expensive place. With a secret key in the environment the hash is an HMAC under it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable

from training.errors import ParamsError
from training.recipe.common.keyed_hash import keyed_number

SUBJECT = "subject:"  # before a subject's name, in forget lists and where names are placed; no id begins with it
KEY = "SISA_PLACEMENT_KEY"
SHORTEST_KEY = 32  # characters: its digest is published, and must not be found out by trying


def subject_of(name: str) -> str | None:
    """NAME of ``subject:NAME``, the spaces around it left out; None of an id."""
    return name.removeprefix(SUBJECT).strip() if name.startswith(SUBJECT) else None


def placement_names(sample_ids: Iterable[str], subjects: Iterable[str]) -> list[str]:
    """What decides each sample's slot: ``subject:NAME``, or its own id where its subject is ``""``."""
    return [
        f"{SUBJECT}{subject}" if subject else sample_id for sample_id, subject in zip(sample_ids, subjects, strict=True)
    ]


def assign_slots(
    names: Iterable[str], shards: int, slices: int, seed: int, key: bytes | None = None
) -> list[tuple[int, int]]:
    """Place each name in a (shard, slice), 0 <= shard < ``shards``, 0 <= slice < ``slices``.

    A slot depends on the name itself, the two counts, the seed and the secret ``key`` alone: adding or forgetting
    a sample never moves another one. Samples of one name (of ``placement_names``) lie in one slot.
    """
    return [(_number(seed, "shard", name, shards, key), _number(seed, "slice", name, slices, key)) for name in names]


def _number(seed: int, purpose: str, name: str, below: int, key: bytes | None) -> int:
    """``keyed_number``, or the same of an HMAC-SHA256 where there is a key."""
    if key is None:
        return keyed_number(seed, purpose, name, below)
    return int.from_bytes(hmac.digest(key, f"{seed}\0{purpose}\0{name}".encode(), "sha256")[:8]) % below


def placement_key(expected: str) -> bytes | None:
    """The key that SISA_PLACEMENT_KEY holds; None where there is none.

    ``expected``: ``data.placement_key_digest``, ``none`` or the digest of the key that samples are placed by. The
    environment may only supply that one: with another everything would be placed and trained anew, and DVC, which
    knows parameters but no environment, would not notice. Raises ParamsError when it supplies another one, none
    where one is expected, or one that is too short.
    """
    text = os.environ.get(KEY, "")
    if not text:
        if expected == "none":
            return None
        raise ParamsError(
            f"samples are placed by a secret key (data.placement_key_digest: {expected[:16]}…), and {KEY} is not set "
            "in the environment. Nothing was changed. Set it to that key. Should the key be lost, `none` or another "
            "key's digest in params.yaml places every sample anew and retrains everything"
        )
    if len(text) < SHORTEST_KEY:
        raise ParamsError(
            f"{KEY} has {len(text)} characters, expected {SHORTEST_KEY} or more that nobody can guess: "
            "`openssl rand -hex 32` makes some"
        )
    key = os.fsencode(text)
    found = key_digest(key)
    if found != expected:
        one = (
            "samples are placed by no key" if expected == "none" else f"samples are placed by the key {expected[:16]}…"
        )
        raise ParamsError(
            f"{one} (data.placement_key_digest in params.yaml), and {KEY} in the environment is another one. Nothing "
            f"was changed. {'Unset it' if expected == 'none' else 'Set it to that key'}; or, to place every sample "
            f"anew by it, which retrains everything, write `placement_key_digest: {found}` below `data:`"
        )
    return key


def key_digest(key: bytes) -> str:
    """Hex SHA-256 that tells which key it is, and not the key; published with every generation."""
    return hashlib.sha256(b"sisa placement key\0" + key).hexdigest()
