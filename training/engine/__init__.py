"""Who trains which shard where; never in a key. For now: one shard in this process."""
