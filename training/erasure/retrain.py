"""Training shards from scratch, in a workspace of their own, and comparing what comes out with what is published."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.ensemble.aggregation import Floats
from training.chain.checkpoints import CheckpointError, content_digest, load_checkpoint
from training.chain.initial_weights import backbone_file
from training.chain.plan import ShardPlan
from training.data.features import read_features, write_features
from training.data.store import Shard, load_shard
from training.engine.serial import train_shard
from training.erasure.bundle import Bundle
from training.erasure.findings import Retrained
from training.errors import UncheckedError, VerifyError
from training.files import json_bytes, remove, write_atomic
from training.learning import FrozenNetwork
from training.locks import hold
from training.publish.record import ShardRecord, load_record
from training.workspace import Workspace

# Two trainings of the same samples on different machines: rounding grows over thousands of steps, so they end in
# other weights that answer alike. docs/audit.md has what was measured.
DISTANCE = 0.25
AGREEMENT = 0.80
IMAGES = 2000  # of the test split, at most, for that comparison


@contextmanager
def own_workspace(project: Workspace) -> Iterator[Workspace]:
    """An empty workspace with the project's parameters, initial weights and ledger; deleted at the end.

    Nothing that the project has trained is in it. Raises BusyError when another verification is running.
    """
    folder = project.erasure.verification
    with hold(project.locks_folder, "verify", "sisa verify", wait=False):
        if folder.exists():
            remove(folder)  # of a killed one
        workspace = Workspace(folder)
        write_atomic(folder / "params.yaml", (project.root / "params.yaml").read_bytes())
        initial = project.models_folder / "initial"
        if initial.is_dir():
            shutil.copytree(initial, workspace.models_folder / "initial")
        # Where a sample was reinstated a model says which issue of the same weights it is, by what was withdrawn.
        for ours, theirs in (
            (workspace.ledger_file, project.ledger_file),
            (workspace.ledger_export, project.ledger_export),
        ):
            write_atomic(ours, theirs.read_bytes())
        try:
            yield workspace
        finally:
            remove(folder)


def retrain(bundle: Bundle, shard_id: int, workspace: Workspace) -> Retrained:
    """Train a shard from scratch and compare it with what is published.

    Raises VerifyError when it is another one though nothing else differs, UncheckedError when that cannot be told.
    """
    project, plan, record = bundle.workspace, bundle.plans[shard_id], bundle.records[shard_id]
    started = time.monotonic()
    shard_file = workspace.shard_file(shard_id)
    shard_file.parent.mkdir(parents=True, exist_ok=True)
    shard_file.symlink_to(project.shard_file(shard_id))
    recompute_features(bundle, shard_id, workspace)
    write_atomic(workspace.plan_file(shard_id), json_bytes(plan.model_dump(mode="json")))
    train_shard(workspace, shard_id)
    ours = load_record(workspace.export_record(shard_id))
    equal = ours.sha256 == record.sha256 and same_checkpoints(workspace, project, plan)
    seconds = round(time.monotonic() - started, 1)
    try:
        if equal:
            return Retrained(shard=shard_id, equal=True, seconds=seconds)
        return compare_answers(bundle, shard_id, workspace, differences(record, ours), seconds)
    finally:
        for path in (workspace.checkpoint_folder(shard_id), workspace.export_file(shard_id), shard_file):
            remove(path)


def recompute_features(bundle: Bundle, shard_id: int, workspace: Workspace) -> None:
    """Of a frozen backbone, from the images. Raises VerifyError when the environment is that of the rows that are
    there, and yet they are others."""
    network, held = bundle.params.network, bundle.features(shard_id)
    if held is None or not isinstance(network, FrozenNetwork):
        return
    from training.backbone.extract import Extractor  # onnxruntime takes a third of a second to import

    path, shard = backbone_file(bundle.workspace.root, network), bundle.shard(shard_id)
    extractor = Extractor(path, bundle.params.data.image_size, bundle.params.device)
    if extractor.maker != held.maker:
        raise UncheckedError(
            f"the features of shard {shard_id} were made by {held.maker}, here it is {extractor.maker}: verify in the "
            "environment that made them"
        )
    rows = extractor.features(shard.checked_images(), lambda _: None)
    write_features(workspace.features_file(shard_id), extractor.maker, shard.digests, rows)
    if read_features(workspace.features_file(shard_id)).digests != held.digests:
        raise VerifyError(f"{held.path} does not hold what the backbone says of the images of shard {shard_id}")


def same_checkpoints(ours: Workspace, theirs: Workspace, plan: ShardPlan) -> bool:
    """Whether each slice has the same weights, losses and costs, wherever and how fast it was trained."""
    if plan.abstains:
        return True
    for slice_id, key in enumerate(plan.keys):
        try:
            found = [load_checkpoint(each.checkpoint_file(plan.shard, slice_id, key), key) for each in (ours, theirs)]
        except CheckpointError:
            return False
        here, there = (content_digest(each.weights, each.record.model_copy(update=ELSEWHERE)) for each in found)
        if here != there:
            return False
    return True


ELSEWHERE: dict[str, object] = {"environment": {}}


def differences(theirs: ShardRecord, ours: ShardRecord) -> list[str]:
    """In what this environment is another one than those that trained what is published; empty when in nothing."""
    here = ours.environments[0]
    said = [
        f"{name}: {there.get(name)} there, {here.get(name)} here"
        for there in theirs.environments
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]
    if ours.graph != theirs.graph:
        said.append("the code or packages that write ONNX files")
    return list(dict.fromkeys(said))


def compare_answers(
    bundle: Bundle, shard_id: int, workspace: Workspace, differs: list[str], seconds: float
) -> Retrained:
    """How alike two models answer that are not the same file, where the environment explains that."""
    project, record = bundle.workspace, bundle.records[shard_id]
    if not record.environments:
        raise UncheckedError(
            f"shard {shard_id}: retrained it is another file, and the ledger does not say in what environment the "
            "published one was made (an earlier version published it)"
        )
    if not differs or record.sha256 is None:
        raise VerifyError(
            f"shard {shard_id}: retrained from its retained samples, in the environment that the ledger names, it is "
            "another model than the published one, which was not made of these samples by this recipe"
        )
    test = load_shard(project.test_file)
    inputs = inputs_of(bundle, test)
    theirs = probabilities(project.published_file(shard_id, record.sha256), inputs)
    ours = probabilities(workspace.export_file(shard_id), inputs)
    distance = float(np.abs(theirs - ours).sum(axis=1).mean() / 2)
    agreement = float((theirs.argmax(axis=1) == ours.argmax(axis=1)).mean())
    if distance > DISTANCE or agreement < AGREEMENT:
        raise VerifyError(
            f"shard {shard_id}: retrained elsewhere ({'; '.join(differs)}) it answers otherwise: the classes agree on "
            f"{agreement:.1%} of {len(theirs)} test pictures (at least {AGREEMENT:.0%} expected), mean distance of "
            f"probabilities {distance:.3f} (at most {DISTANCE})"
        )
    return Retrained(
        shard=shard_id,
        equal=False,
        seconds=seconds,
        differs=tuple(differs),
        distance=round(distance, 4),
        agreement=round(agreement, 4),
    )


def inputs_of(bundle: Bundle, test: Shard) -> Mapping[str, NDArray[np.uint8] | NDArray[np.float32]]:
    """What a model takes, of the first pictures of the test split."""
    if not isinstance(bundle.params.network, FrozenNetwork):
        return {"images": np.ascontiguousarray(test.images[:IMAGES])}
    features = read_features(bundle.workspace.test_features_file)
    features.of(test)
    return {"features": features.rows()[:IMAGES]}


def probabilities(path: Path, inputs: Mapping[str, NDArray[np.uint8] | NDArray[np.float32]]) -> Floats:
    """(N, C)."""
    answers: Floats = onnxruntime.InferenceSession(path).run(["probabilities"], dict(inputs))[0]
    return answers
