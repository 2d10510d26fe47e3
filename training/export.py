"""Stage export@K: the shard's last checkpoint as one self-contained ONNX file, checked against torch.

Input ``images``: (N, H, W, 3) uint8. Output ``probabilities``: (N, C) float32, rows adding up to 1.
Normalisation and softmax are inside, so that nothing can do them differently in serving.
"""

from __future__ import annotations

import warnings
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from torch import Tensor, nn

from training import stage
from training.checkpoints import CheckpointError, load_checkpoint
from training.files import write_atomic
from training.network import build_network
from training.params import load_params
from training.paths import export_file
from training.plan import ShardPlan, load_plan
from training.stage import StageError

TOLERANCE = 1e-4  # largest difference allowed in a probability


class Probabilities(nn.Module):
    """(N, H, W, 3) uint8 to (N, C) float32 probabilities."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images)
        return logits.softmax(dim=1)


def main(shard: Annotated[int, typer.Option(help="which shard to export")]) -> None:
    params = load_params()
    params.check_shard(shard)
    plan = load_plan(shard)
    if plan.abstains:
        write_atomic(export_file(shard), b"")
        print(f"shard {shard}: all its samples are forgotten; it has no model and abstains")
        return
    model = load_model(plan, params.network.name)
    content = export(model, params.data.image_size, {"key": plan.keys[-1], "shard": str(shard)})
    difference = largest_difference(content, model, params.data.image_size)
    if not difference < TOLERANCE:
        raise StageError(
            f"shard {shard}: the ONNX model's probabilities differ from torch's by {difference:.2e}, "
            f"allowed is {TOLERANCE}; nothing was written"
        )
    write_atomic(export_file(shard), content)
    size = f"{len(content) / 1e6:.1f} MB"
    print(f"shard {shard}: {export_file(shard)}, {size}, differs from torch by at most {difference:.1e}")


def load_model(plan: ShardPlan, name: str) -> nn.Module:
    """The network after the last slice, in eval mode."""
    try:
        state, _ = load_checkpoint(plan.chain[-1], plan.keys[-1])
    except CheckpointError as error:
        raise StageError(f"{error}; run `dvc repro train@{plan.shard}`") from error
    network = build_network(name, plan.classes)
    try:
        network.backbone.load_state_dict(state)
    except RuntimeError as error:
        raise StageError(f"{plan.chain[-1]} is of another network than {name}; run `dvc repro`") from error
    return Probabilities(network).eval()


def export(model: nn.Module, image_size: int, provenance: dict[str, str]) -> bytes:
    """ONNX bytes that depend on the weights and ``provenance`` alone.

    Raises ValueError when the model is in training mode: dropout would be exported.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training mode; call eval() first")
    example = torch.zeros((2, image_size, image_size, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        )
    assert program is not None
    proto = program.model_proto
    strip(proto.graph)
    for function in proto.functions:
        del function.metadata_props[:]
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(sorted(provenance.items())))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def strip(graph: onnx.GraphProto) -> None:
    """Remove notes that hold stack traces with absolute paths: other folders would give other bytes."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def largest_difference(content: bytes, model: nn.Module, image_size: int) -> float:
    """Largest |Δ probability| between onnxruntime and torch over pictures of noise and of flat grey."""
    noise = np.random.default_rng(0).integers(0, 256, (31, image_size, image_size, 3), np.uint8)
    images = np.concatenate([noise, np.full_like(noise[:1], 128)])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"images": images})
    with torch.no_grad():
        theirs = model(torch.from_numpy(images)).numpy()
    return float(np.abs(np.asarray(ours) - theirs).max())


if __name__ == "__main__":
    stage.run(main)
