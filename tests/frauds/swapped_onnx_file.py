"""The file of one shard's model is that of the model from before the deletion; nothing else is touched."""

from forgery import BEFORE, PROJECT, published, shard_of_the_forgotten

shard = shard_of_the_forgotten()
published(PROJECT, shard).write_bytes(published(BEFORE, shard).read_bytes())
