"""The only way for trained models to what is served: ``models/ensemble.json`` and ``models/onnx/``.

It is the last gate. What saw a forgotten sample does not pass, wherever it comes from: an old commit, DVC's cache, an
experiment, a run that had begun before the request. Its shard stays pending, and the rest is published.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from serving.ensemble.manifest import EnsembleUnavailable, Forgotten, Manifest, Release, ShardEntry
from training.data.summary import read_summary
from training.errors import DamagedError, MemoryLostError, PublishError
from training.memory.suppressed import Memory
from training.publish.bring_out import as_release, bring_out, digests, read_models
from training.publish.candidate import read_release
from training.publish.events import Entry, Published
from training.publish.fallback import with_earlier_slices
from training.publish.history import last_published, published_models, withdrawn_models
from training.publish.ledger import Ledger
from training.publish.memory import ensure_members, forget_members, open_memory, touched
from training.publish.opening import open_ledger, published_now
from training.publish.record import ShardRecord, load_record
from training.publish.release import listed, read_records
from training.publish.transcript import commitments
from training.publish.withdraw import carry_out
from training.workspace import Workspace

logger = logging.getLogger(__name__)


def publish(workspace: Workspace) -> Manifest | None:
    """Publish the release candidate, unless it is what is published already; None in an experiment.

    May be stopped at any point and called again. Raises DamagedError when the candidate or one of its
    models is missing or damaged (what was published stays), LedgerError or MemoryLostError when those are.
    """
    if workspace.is_experiment:
        logger.info("an experiment publishes nothing; `sisa publish` does, when its models are what is to be served")
        return None
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        release = read_release(workspace)
        records = list(read_records(workspace, release))
        try:
            memory = open_memory(workspace, ledger.read())
        except MemoryLostError as error:
            # A clone that only serves: what the ledger has as published passed this gate elsewhere.
            known, gone = published_models(ledger.read()), withdrawn_models(ledger.read())
            if any((shard.shard, shard.sha256) not in known and shard.sha256 not in gone for shard in release.voters):
                raise
            logger.warning("%s", error)
            return let_out(workspace, ledger, None, release, records)
        for shard, record in zip(release.shards, records, strict=True):
            if shard.sha256 is not None:  # before lists are looked at: only whom a model saw can be asked for
                with suppress(DamagedError):  # which is raised below, if it matters
                    ensure_members(workspace, memory.secret, shard.sha256, record)
        carry_out(workspace, ledger, memory)  # a list may have got longer while shards were trained
        return let_out(workspace, ledger, open_memory(workspace, ledger.read()), release, records)


def offer(workspace: Workspace, shard_id: int) -> None:
    """Let a shard that is pending answer again as soon as it is trained, while others are pending still.

    Other shards stay as they are published. The last one comes back with the candidate: so a generation without pending
    shards is always one of all that a run has trained, and tells its whole cost. Raises as ``publish`` does.
    """
    if workspace.is_experiment or workspace.read_params().publish.readmit != "each":
        return
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        manifest, last = published_now(workspace), last_published(ledger.read())
        record = load_record(workspace.export_record(shard_id))
        waiting = (
            () if manifest is None else [s.shard for s in manifest.shards if s.pending or s.earlier_slice is not None]
        )
        if manifest is None or last is None or shard_id not in waiting or record.sha256 is None:
            return
        if len(waiting) == 1:
            return
        known = {each.shard: each for each in last.shards}
        if shard_id not in known or known[shard_id].graph != record.graph:
            return  # of other parameters than the rest: all of them come out together
        shards = tuple(
            exported(workspace, shard) if shard.shard != shard_id else listed(workspace, record)
            for shard in manifest.shards
        )
        forgotten = Forgotten(**read_summary(workspace.partition_file).forgotten.model_dump())
        release = as_release(manifest).model_copy(update={"shards": shards, "forgotten": forgotten})
        records = [record if each.shard == shard_id else each for each in last.shards]
        memory = open_memory(workspace, ledger.read())
        carry_out(workspace, ledger, memory)
        let_out(workspace, ledger, open_memory(workspace, ledger.read()), release, records)


def exported(workspace: Workspace, shard: ShardEntry) -> ShardEntry:
    """A published shard as the release candidate will list it, if its export is the model that answers."""
    try:
        record = load_record(workspace.export_record(shard.shard))
    except DamagedError:
        return shard
    return listed(workspace, record) if record.sha256 == shard.sha256 and shard.earlier_slice is None else shard


def let_out(
    workspace: Workspace, ledger: Ledger, memory: Memory | None, release: Release, records: Sequence[ShardRecord]
) -> Manifest:
    """Bring out what may answer of a release; the other shards are pending, or answer from an earlier slice."""
    entries = ledger.read()
    digest = hashlib.sha256(release.to_bytes()).hexdigest()
    kept_back = refused(workspace, entries, memory, release, records)
    for shard_id, reason in kept_back.items():
        logger.warning("shard %d stays pending: %s", shard_id, reason)
    release = release.model_copy(
        update={"shards": tuple(s.withdrawn() if s.shard in kept_back else s for s in release.shards)}
    )
    last = last_published(entries)
    if last is None or last.release_sha256 != digest:
        read_models(workspace, release)
        check_models(workspace, release)
    if memory is not None:
        release = with_earlier_slices(workspace, entries, memory, release, workspace.read_params().serve.quorum)
    manifest = bring_out(
        workspace,
        ledger,
        release,
        lambda manifest, stamp: Published.model_validate(
            {
                **stamp,
                **digests(manifest),
                "release_sha256": digest,
                "shards": records,
                "pending": tuple(shard.shard for shard in manifest.shards if shard.pending),
                "earlier_slice": {
                    str(shard.shard): shard.earlier_slice
                    for shard in manifest.shards
                    if shard.earlier_slice is not None
                },
                "transcript": ()
                if memory is None
                else commitments(workspace, memory.secret, entries, release, records),
            }
        ),
        trained=True,
    )
    waiting = {record.shard for record in records} & {s.shard for s in manifest.shards if s.pending}
    withdrawn = withdrawn_models(entries)
    tables = {path.stem for path in workspace.members_folder.glob("*.npy")}
    if not waiting:
        forget_members(workspace, tables - withdrawn)
    return manifest


def refused(
    workspace: Workspace,
    entries: Sequence[Entry],
    memory: Memory | None,
    release: Release,
    records: Sequence[ShardRecord],
) -> Mapping[int, str]:
    """The shards whose model must not answer, each with the reason.

    Raises DamagedError when it is not known what a model was trained on.
    """
    withdrawn, reasons = withdrawn_models(entries), {}
    last = [entry for entry in entries if isinstance(entry, Published)][-1:]
    known = published_models(last)  # they passed this gate, and what was asked for since has withdrawn what saw it
    by_shard = {record.shard: record for record in records}
    for shard in release.shards:
        if shard.sha256 is None:
            continue
        if shard.sha256 in withdrawn:
            reasons[shard.shard] = "its model was withdrawn; `dvc repro` trains it again"
            # After `git checkout` and `dvc checkout` all is up to date for DVC: partition names what is back.
            workspace.partition_file.unlink(missing_ok=True)
            if workspace.models_folder / str(shard.file) == workspace.export_file(shard.shard):
                workspace.export_file(shard.shard).unlink(missing_ok=True)
            continue
        if memory is None or shard.earlier_slice is not None:
            continue
        try:
            members = ensure_members(workspace, memory.secret, shard.sha256, by_shard[shard.shard])
        except DamagedError as error:
            if (shard.shard, shard.sha256) not in known:
                raise DamagedError(f"{error}; run `dvc repro`") from error
            continue
        if hit := touched(members, memory):
            workspace.partition_file.unlink(missing_ok=True)
            reasons[shard.shard] = f"its model saw {len(hit)} samples that are to be forgotten; run `dvc repro`"
    return reasons


def check_models(workspace: Workspace, release: Release) -> None:
    """Raise PublishError unless a service can open every model and each carries the key that is listed for it."""
    from serving.ensemble.loading import open_session  # onnxruntime takes a third of a second to import

    for shard in release.voters:
        try:
            session = open_session(workspace.models_folder, shard, release, "cpu")
        except EnsembleUnavailable as error:
            raise PublishError(f"{error}; nothing was published") from error
        carried = session.get_modelmeta().custom_metadata_map
        if (carried.get("key"), carried.get("shard")) != (shard.key, str(shard.shard)):
            raise PublishError(
                f"models/{shard.file} carries the key {carried.get('key')} of shard {carried.get('shard')}, listed is "
                f"{shard.key} of shard {shard.shard}; nothing was published"
            )
