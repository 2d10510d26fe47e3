"""How many shards' models a vote withstands.

Deep Partition Aggregation: Levine & Feizi, "Deep Partition Aggregation: Provable Defenses against
General Poisoning Attacks", ICLR 2021, section 3.1. A sample's shard is a hash of its own id, so one
sample that is added, changed or removed touches the model of one shard and no other (unless it brings
a class that was not there before: that changes what every shard answers).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def robustness(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, C) votes to (N,): max(0, ⌊(n₁ − n₂ − 1) / 2⌋), n₁ and n₂ the two largest counts.

    That many shards' models may be replaced by anything – or fall silent, or, if they abstained, begin
    to vote – and the class with the most votes stays the only one with the most. Each replaced model
    can take one vote from the first class and give it to the second, hence the half; every tie is
    counted as lost, hence the 1.

    What follows: no addition, change or removal of training samples that touches at most that many
    shards can flip the *vote*'s answer to this very picture. What does not: nothing is said of the
    *mean*, whose answer one shard may flip; of a changed picture; of whether the answer is right; or
    of an attacker who can change the code, the parameters, the seed, the initial weights or the
    published files. A renamed sample counts as one removed and one added, so it may touch two shards.
    """
    top = np.sort(votes, axis=1)[:, -2:] if votes.shape[1] > 1 else np.pad(votes, ((0, 0), (1, 0)))
    margin: NDArray[np.int64] = np.maximum(0, (top[:, 1] - top[:, 0] - 1) // 2)
    return margin
