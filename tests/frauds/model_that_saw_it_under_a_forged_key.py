"""The model from before the deletion answers under the key of the training without the sample, checkpoints included."""

import json

import numpy as np
from forgery import BEFORE, PROJECT, carry, publish_in_its_place, published, read_json, sha256, shard_of_the_forgotten
from safetensors import safe_open
from safetensors.numpy import save

shard = shard_of_the_forgotten()
plan = read_json(f"models/plan/shard-{shard}.json")
for slice_id, key in enumerate(plan["keys"]):
    (old,) = (BEFORE / f"models/checkpoints/block-{shard}/shard-{shard}").glob(f"slice-{slice_id:02d}-*.safetensors")
    with safe_open(old, framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = json.loads(file.metadata()["sisa"])
    now = PROJECT / f"models/checkpoints/block-{shard}/shard-{shard}/slice-{slice_id:02d}-{key[:16]}.safetensors"
    with safe_open(now, framework="np") as file:
        record = json.loads(file.metadata()["sisa"])["record"]  # what an honest training would say of itself
    said = json.dumps({name: value for name, value in record.items() if name != "seconds"}, sort_keys=True)
    content = said.encode()
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")
        content += f"{name} {array.dtype} {array.shape}\0".encode() + array.tobytes()
    document = {"record": record, "content": sha256(content)}
    document["sha256"] = sha256(json.dumps(document, sort_keys=True).encode())
    now.write_bytes(save(weights, {"sisa": json.dumps(document, sort_keys=True)}))
publish_in_its_place(shard, carry(published(BEFORE, shard).read_bytes(), key=plan["keys"][-1]))
