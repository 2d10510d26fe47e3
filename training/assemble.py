"""Stage assemble: publish what may be served, ``models/onnx/`` and its manifest ``models/ensemble.json``.

A service may be reading meanwhile. So a published model's name holds its digest and its bytes never
change: new models are added, then the manifest is replaced in one step, then what it no longer lists
is deleted. Whenever the service looks, a manifest and all its models are there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx

from training import stage
from training.files import json_bytes, read_json, remove, write_atomic, write_if_changed
from training.params import load_params
from training.paths import MANIFEST_FILE, MODELS_FOLDER, ONNX_FOLDER, PARTITION_FILE, export_file, published_file
from training.plan import ShardPlan, load_plan
from training.stage import StageError


def main() -> None:
    params = load_params()
    partition = read_json(PARTITION_FILE)
    plans = [load_plan(shard_id) for shard_id in params.sisa.shards]
    models = [read_export(plan) for plan in plans]  # all of them, before anything is published
    content = {
        "aggregation": params.sisa.aggregation,
        "classes": partition["classes"],
        "image_shape": partition["image_shape"],
        "forgotten": partition["forgotten"],
        "shards": [publish(plan, model) for plan, model in zip(plans, models, strict=True)],
    }
    # A damaged one is an error: to count from 1 again would be going back for whoever serves it.
    mend = f"take the last sound one back with `dvc checkout {MANIFEST_FILE}` and run `dvc repro`"
    before = read_json(MANIFEST_FILE, mend) if MANIFEST_FILE.exists() else None
    generation = next_generation(before, content)
    if before is None or before["generation"] != generation:
        write_atomic(MANIFEST_FILE, json_bytes({"generation": generation, **content}))
    prune(content["shards"])
    print(f"{MANIFEST_FILE}: generation {generation}")


def read_export(plan: ShardPlan) -> bytes:
    """The shard's exported model; nothing for one that abstains.

    Raises StageError when the file is missing or does not carry the planned key.
    """
    path = export_file(plan.shard)
    if plan.abstains:
        return b""
    if not path.is_file():
        raise StageError(f"{path} is missing; run `dvc repro export@{plan.shard}` or `dvc pull`")
    model = path.read_bytes()
    key = carried_key(path, model)
    if key != plan.keys[-1]:
        raise StageError(
            f"{path} carries the key {key}, planned is {plan.keys[-1]}; run `dvc repro export@{plan.shard}`"
        )
    return model


def publish(plan: ShardPlan, model: bytes) -> dict[str, Any]:
    """Put the model where it is served from; its entry in the manifest. An abstaining shard has no file."""
    shard: dict[str, Any] = {"shard": plan.shard, "retained": sum(plan.samples), "key": plan.keys[-1]}
    if plan.abstains:
        return {**shard, "abstains": True, "file": None, "sha256": None}
    digest = hashlib.sha256(model).hexdigest()
    path = published_file(plan.shard, digest)
    write_if_changed(path, model)
    return {**shard, "abstains": False, "file": path.relative_to(MODELS_FOLDER).as_posix(), "sha256": digest}


def prune(shards: list[dict[str, Any]]) -> None:
    """Delete published models that the manifest does not list: they have seen what is forgotten."""
    keep = {MODELS_FOLDER / shard["file"] for shard in shards if shard["file"] is not None}
    for path in set(ONNX_FOLDER.iterdir()) - keep:
        remove(path)


def carried_key(path: Path, content: bytes) -> str | None:
    """The key in an ONNX file's metadata, if there is one. Raises StageError when it is no such file."""
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError is no stable import
        raise StageError(f"{path} is not an ONNX model ({error}); delete it and run `dvc repro`") from error
    return next((prop.value for prop in model.metadata_props if prop.key == "key"), None)


def next_generation(before: dict[str, Any] | None, content: dict[str, Any]) -> int:
    """1 for the first manifest, the same number for the same content, one more for any other."""
    if before is None:
        return 1
    generation: int = before["generation"]
    same = {name: value for name, value in before.items() if name != "generation"} == content
    return generation if same else generation + 1


if __name__ == "__main__":
    stage.run(main)
