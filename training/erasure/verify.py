"""`sisa verify`: whether what is served is what a training without the forgotten samples comes to.

Quick checks read everything and train nothing. Retraining is what they cannot replace: a key is computed from samples,
so a model that saw others may carry the right one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial

from training.data.placement import SUBJECT, assign_slots, placement_key
from training.environment import environment
from training.erasure.bundle import Bundle
from training.erasure.code import check_code, commit_of
from training.erasure.commitments import check_transcript
from training.erasure.findings import Check, Retrained, Verification, judge, keep
from training.erasure.records import (
    check_checkpoints,
    check_keys,
    check_ledger,
    check_manifest,
    check_models,
    check_requests,
    lacking,
)
from training.erasure.remains import check_forgotten
from training.erasure.retrain import own_workspace, retrain
from training.erasure.served import check_service
from training.erasure.source import check_source
from training.errors import LedgerError, RequestError
from training.files import sha256_file
from training.forgetting.services import addresses
from training.publish.events import Verified
from training.publish.ledger import Ledger
from training.publish.opening import published_now
from training.publish.progress import shards_touched
from training.workspace import Workspace

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "dvc")  # whose versions are written down
QUICK = {
    "requests": check_requests,
    "manifest": check_manifest,
    "models": check_models,
    "keys": check_keys,
    "checkpoints": check_checkpoints,
    "forgotten samples": check_forgotten,
    "commitments": check_transcript,
    "code": check_code,
}


def verify(
    workspace: Workspace,
    *,
    shards: Collection[int] = (),
    samples: Sequence[str] = (),
    at_random: int = 0,
    url: str | None = None,
    quick: bool = False,
    record: bool = True,
) -> Verification:
    """Check what is published, and enter what was found into the ledger, where that can be read.

    Retrained are ``shards``, those that ``samples`` lay in, and ``at_random`` more; all that answer where none of the
    three is given, and none when ``quick``. ``url``: of a service that is to be asked too. Nothing of the workspace is
    changed but the ledger, and that neither without ``record``: an auditor's clone would fork it. Raises RequestError
    when a shard, sample or address cannot be what is meant.
    """
    if workspace.is_experiment:
        raise RequestError("this is an experiment, which publishes nothing to verify; do it in the project")
    address = None if url is None else addresses([url])[0]
    bundle, retrained = Bundle(workspace), list[Retrained]()
    checks = [judge("ledger", partial(check_ledger, bundle))]
    if checks[0].outcome == "failed":
        checks.append(Check(name="the rest", outcome="not checked", found="all of it goes by the ledger"))
    else:
        chosen = [] if quick else choose(bundle, shards, samples, at_random)
        checks += [judge(name, partial(check, bundle)) for name, check in QUICK.items()]
        checks.append(judge("source", partial(check_source, bundle, chosen)))
        if address is not None:
            checks.append(judge("service", partial(check_service, bundle, address)))
        if chosen:
            checks += retrain_all(bundle, chosen, checks, retrained)
    return enter(workspace, address, checks, retrained, record=record)


def choose(bundle: Bundle, shards: Collection[int], samples: Sequence[str], at_random: int) -> list[int]:
    """The shards to retrain, in order. Raises as ``verify`` does."""
    known = answering(bundle)
    if wrong := set(shards) - known:
        raise RequestError(
            f"shard {min(wrong)} does not answer; those that do are {', '.join(map(str, sorted(known)))}"
        )
    chosen = set(shards) | {shard for sample in samples for shard in shards_of(bundle, sample)} & known
    left = sorted(known - chosen)
    if at_random > len(left):
        raise RequestError(f"{at_random} more shards were asked for at random, there are {len(left)}")
    chosen |= set(random.SystemRandom().sample(left, at_random))
    return sorted(chosen if shards or samples or at_random else known)


def shards_of(bundle: Bundle, sample: str) -> set[int]:
    """The shards that a forgotten sample, or subject, lay in. Raises RequestError when it was not forgotten here.

    As the ledger tells of its requests; where no model saw it, the shard that it would be placed in.
    """
    memory, params = bundle.memory, bundle.params
    if memory is None or not memory.suppresses(sample):
        raise RequestError(
            f"{sample!r} was not forgotten here, or was reinstated; `sisa where` says what is known of it"
        )
    requests = memory.asked[memory.secret.of_id(sample)]
    found = {shard for request in requests for shard in shards_touched(bundle.entries, request)}
    if found:
        return found
    if params.data.subjects != "none" and not sample.startswith(SUBJECT):
        return set(params.sisa.shards)
    key = placement_key(params.data.placement_key_digest)
    return {assign_slots([sample], len(params.sisa.shards), params.sisa.slices, params.seed, key)[0][0]}


def answering(bundle: Bundle) -> set[int]:
    """The shards that answer with all their slices."""
    return {shard.shard for shard in bundle.manifest.voters if shard.earlier_slice is None}


def shards_of_request(bundle: Bundle, request: str) -> set[int]:
    """The shards that a request touched, and that answer again."""
    return answering(bundle) & shards_touched(bundle.entries, request)


def retrain_all(
    bundle: Bundle, chosen: Sequence[int], before: Sequence[Check], retrained: list[Retrained]
) -> list[Check]:
    """A check for each shard; none is trained once something failed, since what to train would not be certain."""
    if any(check.outcome == "failed" for check in before):
        return [
            Check(name="retraining", outcome="not checked", found="nothing was retrained: a check before it failed")
        ]
    checks = []
    with own_workspace(bundle.workspace) as workspace:
        for number, shard_id in enumerate(chosen, start=1):
            logger.info("verifying shard %d, %d of %d: training it from scratch", shard_id, number, len(chosen))
            checks.append(judge(f"shard {shard_id}", partial(retrain_one, bundle, shard_id, workspace, retrained)))
    return checks


def retrain_one(bundle: Bundle, shard_id: int, workspace: Workspace, retrained: list[Retrained]) -> str:
    found = retrain(bundle, shard_id, workspace)
    retrained.append(found)
    if found.equal:
        return f"trained from scratch in {found.seconds} s: the same checkpoints and ONNX file, bit for bit"
    return (
        f"trained from scratch in {found.seconds} s elsewhere ({'; '.join(found.differs)}): not bit for bit, which is "
        f"weaker; classes agree on {found.agreement:.1%} of the test pictures, distance {found.distance}"
    )


def enter(
    workspace: Workspace,
    service: str | None,
    checks: Sequence[Check],
    retrained: Sequence[Retrained],
    *,
    record: bool = True,
) -> Verification:
    """Write down what was found.

    A ledger that cannot be read, or of which a copy lacks entries, is left as it is found, which is logged: it may be
    evidence. So is that of a clone, which has no copy of its own: the entries are those of whoever trains.
    """
    with workspace.publish_lock():
        ledger, manifest = Ledger(workspace.ledger_file, workspace.ledger_export), published_now(workspace)
        stamp: dict[str, object] = {}
        entries, head = 0, ""
        try:
            last = ledger.stamp()
            entries, head = len(ledger.read()), str(last["previous"])
            if not record or not workspace.ledger_file.is_file():
                logger.info("nothing was entered into the ledger")
            elif lacking(workspace):
                logger.warning("nothing was entered into the ledger: its two copies are not the same")
            else:
                stamp = last
        except LedgerError as error:
            logger.warning("nothing was entered into the ledger: %s", error)
        found = Verification(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            generation=0 if manifest is None else manifest.generation,
            manifest_sha256="" if manifest is None else sha256_file(workspace.manifest_file),
            entries=entries,
            head=head,
            code=commit_of(workspace),
            environment=environment(*PACKAGES),
            checks=tuple(checks),
            retrained=tuple(retrained),
            service=service,
        )
        if stamp:
            ledger.append(
                Verified.model_validate(
                    {
                        **stamp,
                        "generation": found.generation,
                        "manifest_sha256": found.manifest_sha256,
                        "retrained": tuple(each.shard for each in retrained),
                        "comparison": found.comparison,
                        "service": service,
                        "passed": found.passed,
                        "findings_sha256": keep(workspace, found),
                    }
                )
            )
    return found
