"""The model from before the deletion answers under the key of the training without the sample, checkpoints included."""

from forgery import (
    BEFORE,
    PROJECT,
    carry,
    publish_in_its_place,
    published,
    read_checkpoint,
    read_json,
    shard_of_the_forgotten,
    write_checkpoint,
)

shard = shard_of_the_forgotten()
plan = read_json(f"models/plan/shard-{shard}.json")
folder = f"models/checkpoints/block-{shard}/shard-{shard}"
for slice_id, key in enumerate(plan["keys"]):
    (old,) = (BEFORE / folder).glob(f"slice-{slice_id:02d}-*.safetensors")
    now = PROJECT / folder / f"slice-{slice_id:02d}-{key[:16]}.safetensors"
    weights, _ = read_checkpoint(old)
    _, record = read_checkpoint(now)  # what an honest training would say of itself
    write_checkpoint(now, weights, record)
publish_in_its_place(shard, carry(published(BEFORE, shard).read_bytes(), key=plan["keys"][-1]))
