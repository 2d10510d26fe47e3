"""Whether an exported model is the one that a plan calls for."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from training.chain.plan import ShardPlan
from training.errors import DamagedError
from training.files import sha256_file
from training.learning import FrozenNetwork
from training.publish.record import ShardRecord
from training.recipe.common.recipe import Recipe
from training.syntax import code_digest

EMPTY = hashlib.sha256().hexdigest()  # the file of a shard that abstains: DVC needs one


def check_record(record: ShardRecord, plan: ShardPlan, onnx_file: Path) -> None:
    """Raise DamagedError unless the model in ``onnx_file`` is the one that the plan calls for."""
    if (record.keys, record.merkle_root) != (plan.keys, plan.merkle_root):
        raise DamagedError(
            f"{onnx_file} carries the key {record.keys[-1]}, the plan of shard {plan.shard} calls for {plan.keys[-1]}"
        )
    costs = [(cost.key, cost.samples) for cost in record.slices]
    expected = [(key, sum(plan.samples[: number + 1])) for number, key in enumerate(plan.keys) if not plan.abstains]
    if (record.shard, record.retained, record.sha256 is None) != (plan.shard, plan.retained, plan.abstains):
        raise DamagedError(f"the record of {onnx_file} is not that of shard {plan.shard} with {plan.retained} samples")
    if costs != expected:
        raise DamagedError(f"the record of {onnx_file} does not list the slices of shard {plan.shard}")
    if not onnx_file.is_file():
        raise DamagedError(f"{onnx_file} is missing")
    found, wanted = sha256_file(onnx_file), record.sha256 or EMPTY
    if found != wanted:
        raise DamagedError(f"{onnx_file} has sha256 {found}, its record says {wanted}")


def graph_digest(recipe: Recipe) -> str:
    """Hex SHA-256 of everything but weights that makes an ONNX file: network, sizes, code and exporters."""
    frozen = isinstance(recipe.network, FrozenNetwork)
    module, packages = (
        ("head.py", ("onnx",)) if frozen else ("export.py", ("torch", "torchvision", "onnx", "onnxscript"))
    )
    parts = {
        "network": recipe.initial_weights if frozen else recipe.network.model_dump(exclude={"weights"}),
        "classes": recipe.classes,
        "image_size": recipe.image_size,
        "features": recipe.features,
        "code": {**recipe.code, "export": module_digest(module)},
        "versions": {name: version(name) for name in packages},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def module_digest(name: str) -> str:
    """Of what the code of a module beside this one does."""
    return code_digest(Path(__file__).with_name(name).read_text(encoding="utf-8"))
