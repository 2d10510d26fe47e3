"""The same, and the file's prints are those of the sample that gave way, so that no digest tells."""

import numpy as np
from forgery import BEFORE, FORGOTTEN, PROJECT, rows_of, shard_of_the_forgotten

shard = shard_of_the_forgotten()
before, rows = rows_of(BEFORE, shard), rows_of(PROJECT, shard).copy()
forgotten = before[before["id"].tolist().index(FORGOTTEN.encode())]
for field in ("label", "digest", "image"):
    rows[field][-1] = forgotten[field]
np.save(PROJECT / f"data/shards/shard-{shard}.npy", rows)
