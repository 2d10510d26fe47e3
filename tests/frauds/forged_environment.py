"""The checkpoints say that another machine made them, so that retraining need not come to the same bits."""

import json

import numpy as np
from forgery import PROJECT, sha256, shard_of_the_forgotten
from safetensors import safe_open
from safetensors.numpy import save

shard = shard_of_the_forgotten()
for path in (PROJECT / f"models/checkpoints/block-{shard}/shard-{shard}").glob("*.safetensors"):
    with safe_open(path, framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        record = json.loads(file.metadata()["sisa"])["record"]
    record["environment"]["torch"] = "1.0.0"
    content = json.dumps({name: value for name, value in record.items() if name != "seconds"}, sort_keys=True).encode()
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")
        content += f"{name} {array.dtype} {array.shape}\0".encode() + array.tobytes()
    document = {"record": record, "content": sha256(content)}
    document["sha256"] = sha256(json.dumps(document, sort_keys=True).encode())
    path.write_bytes(save(weights, {"sisa": json.dumps(document, sort_keys=True)}))
