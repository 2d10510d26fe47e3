"""How likely an auditor who retrains some shards is to meet a false one."""

from __future__ import annotations

from math import comb


def chance_of_noticing(shards: int, false: int, drawn: int) -> float:
    """That at least one of ``false`` shards is among ``drawn`` ones of ``shards``, drawn at random without repetition.

    Hypergeometric: 1 - C(S - m, k) / C(S, k). Raises ValueError when there cannot be so many.
    """
    if not 0 <= false <= shards or not 0 <= drawn <= shards:
        raise ValueError(f"{false} false and {drawn} drawn of {shards} shards")
    return 1 - comb(shards - false, drawn) / comb(shards, drawn)
