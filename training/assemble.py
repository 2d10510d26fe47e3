"""Stage assemble: the manifest of what may be served, ``models/ensemble.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from training import stage
from training.files import json_bytes, read_json, sha256_file, write_atomic
from training.params import load_params
from training.paths import MANIFEST_FILE, MODELS_FOLDER, PARTITION_FILE, onnx_file
from training.plan import ShardPlan, load_plan
from training.stage import StageError


def main() -> None:
    params = load_params()
    partition = read_json(PARTITION_FILE)
    content = {
        "aggregation": params.sisa.aggregation,
        "classes": partition["classes"],
        "image_shape": partition["image_shape"],
        "forgotten": partition["forgotten"],
        "shards": [describe(load_plan(shard_id)) for shard_id in params.sisa.shards],
    }
    # A damaged one is an error: to count from 1 again would be going back for whoever serves it.
    mend = f"take the last sound one back with `dvc checkout {MANIFEST_FILE}` and run `dvc repro`"
    before = read_json(MANIFEST_FILE, mend) if MANIFEST_FILE.exists() else None
    generation = next_generation(before, content)
    if before is None or before["generation"] != generation:
        write_atomic(MANIFEST_FILE, json_bytes({"generation": generation, **content}))
    print(f"{MANIFEST_FILE}: generation {generation}")


def describe(plan: ShardPlan) -> dict[str, Any]:
    """One shard of the manifest; an abstaining one has no file.

    Raises StageError when its ONNX file is missing or does not carry the planned key.
    """
    path = onnx_file(plan.shard)
    shard: dict[str, Any] = {"shard": plan.shard, "retained": sum(plan.samples), "key": plan.keys[-1]}
    if plan.abstains:
        return {**shard, "abstains": True, "file": None, "sha256": None}
    if not path.is_file():
        raise StageError(f"{path} is missing; run `dvc repro export@{plan.shard}` or `dvc pull`")
    key = carried_key(path)
    if key != plan.keys[-1]:
        raise StageError(
            f"{path} carries the key {key}, planned is {plan.keys[-1]}; run `dvc repro export@{plan.shard}`"
        )
    file = path.relative_to(MODELS_FOLDER).as_posix()
    return {**shard, "abstains": False, "file": file, "sha256": sha256_file(path)}


def carried_key(path: Path) -> str | None:
    """The key in an ONNX file's metadata, if there is one."""
    try:
        model = onnx.load(path)
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
