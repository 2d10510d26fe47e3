"""How many shards' models a vote withstands.

Deep Partition Aggregation: Levine & Feizi, "Deep Partition Aggregation: Provable Defenses against
General Poisoning Attacks", ICLR 2021, section 3.1. A sample's shard is a hash of its own id, so one
sample that is added, changed or removed touches the model of one shard and no other (unless it brings
a class that was not there before: that changes what every shard answers). Where placement is by subject it is
a hash of the subject's name, so all that one subject's samples can do is done in one shard, and the bound
counts subjects: read "sample (or subject, where placement is by subject)" below. One that is given to another
subject may touch two shards.

**Pending shards.** The paper's ensemble always votes with all its models; ours may lack p of them, which
were withdrawn and not yet replaced. Two votes could be meant by "the vote": that of the shards which answer
now, and that of all of them once the p are back. The bound is one for both. Let n₁ and n₂ be the votes of the
first class and of the runner-up among the shards that answer. Each pending shard comes back with one vote or
none: in the worst case all p vote for the runner-up and the lead shrinks to n₁ − n₂ − p, since a vote that was
not there before can only be added to one side. (For k *replaced* models it shrinks by 2k: a vote is taken away
from the first class as well.) Both together leave n₁ − n₂ − p − 2k, and the first class alone has the most
votes while that is at least 1, whichever class is the runner-up: k ≤ (n₁ − n₂ − 1 − p) / 2. If some of the k
replaced models are those of pending shards nothing is worse, since those were free to vote as they like
already; so pending shards are not counted among the k, and with p = 0 it is the paper's bound with every tie
counted as lost. A shard that answers from an earlier slice has one model that depends on its own samples alone,
like any other. A shard without samples has no vote to come back with, but one added sample may give it one: it
is among what k counts, where a vote begun is worth less than one replaced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def robustness(votes: NDArray[np.int64], pending: int = 0) -> NDArray[np.int64]:
    """(N, C) votes to (N,): max(0, ⌊(n₁ − n₂ − 1 − p) / 2⌋), n₁ and n₂ the two largest counts, p = ``pending``.

    That many shards' models may be replaced by anything – or fall silent, or, if they abstained, begin
    to vote – and each of the ``pending`` shards may come back with any vote or none, and the class with the most
    votes stays the only one with the most. Each replaced model can take one vote from the first class and give
    it to the second, hence the half; every tie is counted as lost, hence the 1.

    What follows: no addition, change or removal of that many training samples (or subjects, where placement is
    by subject), or of any number of them that touches at most that many shards, can flip the *vote*'s answer to
    this very picture. What does not: nothing is said of the
    *mean*, whose answer one shard may flip; of a changed picture; of whether the answer is right; or
    of an attacker who can change the code, the parameters, the seed, the initial weights or the
    published files. A renamed sample counts as one removed and one added, so it may touch two shards.
    Where it is 0, pending shards may flip the answer by themselves.
    """
    top = np.sort(votes, axis=1)[:, -2:] if votes.shape[1] > 1 else np.pad(votes, ((0, 0), (1, 0)))
    margin: NDArray[np.int64] = np.maximum(0, (top[:, 1] - top[:, 0] - 1 - pending) // 2)
    return margin
