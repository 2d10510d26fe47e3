"""Whether files, keys, manifest and ledger say the same, without training anything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from training.chain.checkpoints import CheckpointError, load_checkpoint
from training.engine.export import environments_of
from training.erasure.bundle import Bundle
from training.errors import UncheckedError, VerifyError
from training.files import sha256_file
from training.git import ask_git, refusal
from training.publish.history import generation_of, last_generation, remembered_batches, withdrawn_models
from training.publish.ledger import whole_lines
from training.publish.progress import follow
from training.workspace import Workspace


def check_ledger(bundle: Bundle) -> str:
    """Its two copies, its links, git's version of it, and the suppression memory."""
    workspace, entries = bundle.workspace, bundle.entries
    if not entries:
        raise VerifyError(f"{workspace.ledger_file} is missing or empty, so nothing says what was published when")
    if (reason := refusal(workspace)) is not None:
        raise UncheckedError(f"git does not answer here, so the ledger was not compared with its: {reason}")
    committed = ask_git(workspace, "show", "HEAD:./models/ledger.jsonl")  # None where git has none
    ours = b"".join(whole_lines(workspace.ledger_export))
    # A clone has no copy of its own; git's is then all there is, and must be it.
    alone = not workspace.ledger_file.is_file() and committed is not None and committed.encode() == ours
    if not alone and (missing := lacking(workspace)):
        raise VerifyError(f"{missing[0]} lacks entries that the other copy has; `sisa publish` extends it")
    if committed is not None and not ours.startswith(committed.encode()):
        raise VerifyError(
            "the ledger does not continue the one that git has (HEAD:models/ledger.jsonl): entries were changed or "
            "removed since; docs/ledger.md says how to find out which"
        )
    memory = bundle.memory
    known, held = remembered_batches(entries), [] if memory is None else [batch.digest for batch in memory.batches]
    if held != known:
        raise VerifyError(
            f"the suppression memory has {len(held)} lines, {len(known)} are in the ledger, and they are not the same: "
            "a command was killed (run `dvc repro`, and verify then), or entries or lines were changed or removed "
            "(restore .sisa/ from its backup, docs/forgetting.md)"
        )
    copies = "in git's copy, there being no other" if alone else "in two equal copies"
    continued = "" if alone or committed is None else ", which continue git's"
    return f"{len(entries)} linked entries {copies}{continued}; the suppression memory is theirs"


def lacking(workspace: Workspace) -> list[Path]:
    """The copies of the ledger that lack entries which the other one has."""
    copies = (workspace.ledger_file, workspace.ledger_export)
    lengths = [len(whole_lines(path)) for path in copies]
    return [path for path, length in zip(copies, lengths, strict=True) if length < max(lengths)]


def check_requests(bundle: Bundle) -> str:
    """Every request that the ledger has is carried out, and every shard answers with all its slices."""
    standing = follow(bundle.entries)
    if standing.open:
        names = ", ".join(sorted({f"{each.asked.request} ({each.step})" for each in standing.open}))
        raise VerifyError(f"not carried out yet: {names}; run `dvc repro`, and verify then")
    if standing.away:
        raise VerifyError(
            f"shards {', '.join(map(str, standing.away))} do not answer with all their slices; `dvc repro`"
        )
    done = [each for each in standing.requests if each.step == "published"]
    return f"none is open, carried out: {len(done)}"


def check_manifest(bundle: Bundle) -> str:
    """What is published is the last generation of the ledger."""
    workspace, last = bundle.workspace, last_generation(bundle.entries)
    if last is None:
        raise VerifyError("the ledger has no generation, yet something is published")
    number, found = bundle.manifest.generation, sha256_file(workspace.manifest_file)
    if (number, found) != (generation_of(last), last.manifest_sha256):
        raise VerifyError(
            f"{workspace.manifest_file} is generation {number} with sha256 {found}, the ledger ends with generation "
            f"{generation_of(last)}, {last.manifest_sha256}: it was edited, or an older one came back; `sisa publish` "
            "publishes the right one"
        )
    return f"generation {number}, the last of the ledger, {found}"


def check_models(bundle: Bundle) -> str:
    """Every model is the one that manifest and ledger list, none was withdrawn, and no other lies beside them."""
    workspace, gone = bundle.workspace, withdrawn_models(bundle.entries)
    listed = {}
    for shard in bundle.manifest.voters:
        path = workspace.models_folder / str(shard.file)
        listed[path] = shard.sha256
        if shard.sha256 in gone:
            raise VerifyError(f"shard {shard.shard} answers with a model that was withdrawn, {shard.sha256}")
        record = bundle.records.get(shard.shard)
        if shard.earlier_slice is None and (record is None or record.sha256 != shard.sha256):
            raise VerifyError(
                f"shard {shard.shard}: the manifest lists another model than the ledger's last generation"
            )
        content = path.read_bytes() if path.is_file() else b""
        if (found := hashlib.sha256(content).hexdigest()) != shard.sha256:
            raise VerifyError(f"{path} has sha256 {found}, listed is {shard.sha256}: it was exchanged or damaged")
        carried = carried_by(content)
        if (carried.get("key"), carried.get("shard")) != (shard.key, str(shard.shard)):
            raise VerifyError(f"{path} carries the key {carried.get('key')}, listed is {shard.key}")
    backbone = bundle.manifest.backbone
    if backbone is not None:
        path = workspace.models_folder / backbone.file
        listed[path] = backbone.sha256
        if not path.is_file() or sha256_file(path) != backbone.sha256:
            raise VerifyError(f"{path} is not the backbone that is listed, {backbone.sha256}")
    if beside := sorted(set(workspace.onnx_folder.glob("*")) - listed.keys()):
        raise VerifyError(f"{beside[0]} lies among the published models and is none of them; `sisa publish` removes it")
    return f"{len(bundle.manifest.voters)} models, each with the sha256 and the key that manifest and ledger list"


def carried_by(content: bytes) -> dict[str, str]:
    """The provenance that an ONNX file carries; nothing where it is none."""
    try:
        return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    except DecodeError:
        return {}


def check_keys(bundle: Bundle) -> str:
    """The keys of what is published are those of the samples in the shard files.

    Raises UncheckedError where the samples are those, and parameters, code or initial weights are others since.
    """
    if sorted(bundle.plans) != [shard.shard for shard in bundle.manifest.shards]:
        raise UncheckedError("params.yaml names other shards than are published; run `dvc repro`, and verify then")
    for shard_id, record in bundle.records.items():
        plan = bundle.plans[shard_id]
        if plan.merkle_root != record.merkle_root:
            raise VerifyError(
                f"{bundle.workspace.shard_file(shard_id)} does not hold the samples that the model of shard {shard_id} "
                "was published with"
            )
    for shard_id, record in bundle.records.items():
        if bundle.plans[shard_id].keys != record.keys:
            raise UncheckedError(
                f"shard {shard_id} has the samples that its model was published with, but parameters, the recipe's "
                "code, initial weights or features are others now: verify with those of the commit that has this "
                "generation, or run `dvc repro`"
            )
    return f"the key chains of {len(bundle.records)} shards, computed again from their samples, are those in the ledger"


def check_checkpoints(bundle: Bundle) -> str:
    """Each is whole, carries the key of its slice, and says what the ledger says of it; no other lies beside them."""
    workspace, count = bundle.workspace, 0
    homes: set[Path] = set()
    for shard_id, record in bundle.records.items():
        made, homes = [], homes | set(workspace.checkpoint_files(shard_id, record.keys))
        for path, key in zip(workspace.checkpoint_files(shard_id, record.keys), record.keys, strict=True):
            if record.sha256 is None:
                continue
            try:
                checkpoint = load_checkpoint(bundle.here(path), key)
            except CheckpointError as error:
                raise VerifyError(str(error)) from error
            made.append(checkpoint.record)
            count += 1
        if record.environments and environments_of(made) != list(record.environments):
            raise VerifyError(
                f"the checkpoints of shard {shard_id} say that they were made elsewhere than the ledger says"
            )
    waiting = {shard.shard for shard in bundle.manifest.shards} - bundle.records.keys()
    folders = {workspace.checkpoint_folder(shard_id) for shard_id in waiting}
    for path in sorted(workspace.checkpoints_folder.rglob("*.safetensors")):
        if path not in homes and path.parent not in folders:
            raise VerifyError(f"{path} is on no key chain: it has seen other samples; `dvc repro` removes it")
    return f"{count} checkpoints, each whole and with the key of its slice"
