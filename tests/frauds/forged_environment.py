"""The checkpoints say that another machine made them, so that retraining need not come to the same bits."""

from forgery import PROJECT, read_checkpoint, shard_of_the_forgotten, write_checkpoint

shard = shard_of_the_forgotten()
for path in (PROJECT / f"models/checkpoints/block-{shard}/shard-{shard}").glob("*.safetensors"):
    weights, record = read_checkpoint(path)
    record["environment"]["torch"] = "1.0.0"
    write_checkpoint(path, weights, record)
