"""The serial engine: trains and exports one shard in this process.

Its unit, *train and export one shard*, is idempotent: what is already there by its key is verified and
kept. So it may be stopped at any point and called again.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import NoReturn

from tqdm import tqdm

from training.chain.checkpoints import Checkpoint, Record, content_digest, save_checkpoint
from training.chain.initial_weights import initial_weights_digest, initial_weights_file
from training.chain.keys import RECIPE_FOLDER
from training.chain.plan import ShardPlan, check_plan, in_words, load_plan
from training.data.features import Features, read_features
from training.data.store import Shard, load_shard
from training.engine.chain import Chain, prune, read_chain
from training.engine.export import export, write_curve
from training.engine.trainer import Trainer
from training.errors import StalePlanError
from training.learning import FrozenNetwork, Ridge
from training.params import Params
from training.syntax import folder_digest
from training.workspace import Workspace

logger = logging.getLogger(__name__)

# How long OpenMP's threads spin before they sleep. With the default of some 300,000 a shard of the digits
# took 79 s in place of 1.5 beside two busy processes, with this 8 s, and on idle cores both took the same.
SPINS = "10000"


def train_shard(workspace: Workspace, shard_id: int, *, fresh: bool = False) -> None:
    """Bring a shard's checkpoints and export to what its plan calls for; ``fresh``: train all of it again.

    Raises StalePlanError when the plan is not that of today's samples, parameters and code,
    DamagedError when plan or shard file are missing or damaged, TrainingError when training fails,
    PublishError when the export does not agree with torch.
    """
    workspace.read_params().check_shard(shard_id)
    with workspace.shard_lock(shard_id):
        # Read under the lock: samples may have been forgotten while this process waited for it.
        params = workspace.read_params()
        plan, shard = load_plan(workspace.plan_file(shard_id)), load_shard(workspace.shard_file(shard_id))
        features = None
        if isinstance(params.network, FrozenNetwork):
            features = read_features(workspace.features_file(shard_id))
        weights = initial_weights_digest(workspace.root, params.network)
        check_plan(plan, params, weights, shard, None if features is None else features.of(shard))
        chain = Chain(workspace.checkpoint_files(shard_id, plan.keys))
        prune(workspace.checkpoint_folder(shard_id), set() if fresh or plan.abstains else set(chain.paths))
        if not plan.abstains:
            read_chain(plan, chain)
        if chain.stale:
            train(workspace, plan, shard, features, chain, trainer=make_trainer(workspace, plan, params))
        else:
            logger.info("shard %d: every checkpoint is valid, nothing to train", shard_id)
        write_curve(workspace.loss_curve(shard_id), chain.records)
        export(workspace, plan, chain)


def train(
    workspace: Workspace, plan: ShardPlan, shard: Shard, features: Features | None, chain: Chain, *, trainer: Trainer
) -> None:
    """Train the stale slices and save a checkpoint after each."""
    for slice_id, checkpoint in chain.needed.items():
        if slice_id + 1 in chain.stale and checkpoint.record.environment != trainer.environment:
            logger.warning(
                "%s was made by %s, this is %s: the result is sound, but not bit for bit that of a training from "
                "scratch here",
                workspace.short(chain.paths[slice_id]),
                dict(checkpoint.record.environment),
                dict(trainer.environment),
            )
    seconds = 0.0
    stale = list(chain.stale)
    with progress(plan, stale) as bar:
        trained = trainer.train(
            shard.checked_images() if features is None else features.rows(),
            shard.labels,
            shard.slices,
            stale=stale,
            weights={slice_id: checkpoint.weights for slice_id, checkpoint in chain.needed.items()},
            on_batch=on_batch(bar, plan),
        )
        for part in trained:
            record = Record(
                key=plan.keys[part.slice_id],
                recipe=plan.recipe.key,
                shard=plan.shard,
                slice_id=part.slice_id,
                samples=part.samples,
                sample_epochs=part.sample_epochs,
                losses=tuple(part.losses),
                environment=trainer.environment,
                seconds=round(part.seconds, 3),
            )
            save_checkpoint(chain.paths[part.slice_id], part.state, record)
            chain.records[part.slice_id] = record
            if part.slice_id == len(chain.paths) - 1:
                content = content_digest(part.state, record)
                chain.needed[part.slice_id] = Checkpoint(part.state, record, content)
            seconds += part.seconds
    logger.info("shard %d: trained %s in %.1f s", plan.shard, in_words(stale), seconds)


def make_trainer(workspace: Workspace, plan: ShardPlan, params: Params) -> Trainer:
    """Whatever trains by such a recipe; torch, which takes seconds to import, only where it is needed."""
    if isinstance(plan.recipe.training, Ridge):
        from training.engine.closed_form import ClosedForm

        check_code(plan)  # what is imported now is what the plan was made for
        return ClosedForm(plan.recipe)
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    from training.engine.descent import Descent

    check_code(plan)
    return Descent(plan.recipe, initial_weights_file(workspace.root, params.network), params.device)


@cache
def imported_code(room: str) -> str:
    """The digest of a room's code on the disk, when it was first asked for: what a process has imported stays."""
    return folder_digest(RECIPE_FOLDER / room)


def check_code(plan: ShardPlan) -> None:
    """Raise StalePlanError when the recipe's code on the disk is not that of the plan (any more)."""
    if any(imported_code(room) != digest for room, digest in plan.recipe.code.items()):
        raise StalePlanError(f"the plan of shard {plan.shard} was made for other code than there is now")


def progress(plan: ShardPlan, stale: list[int]) -> tqdm[NoReturn]:
    return tqdm(
        total=plan.sample_epochs(stale),
        desc=f"shard {plan.shard}",
        unit="img",
        unit_scale=True,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )


def on_batch(bar: tqdm[NoReturn], plan: ShardPlan) -> Callable[[int, int, int], None]:
    slices, epochs = len(plan.keys), plan.recipe.training.epochs_per_slice

    def report(slice_id: int, epoch: int, count: int) -> None:
        bar.set_postfix_str(f"slice {slice_id + 1}/{slices}, epoch {epoch + 1}/{epochs}", refresh=False)
        bar.update(count)

    return report
