"""Stage backdoor: how often a drill's trigger turns a picture into the attacker's class."""

from __future__ import annotations

from training.evaluation.reports import Absent, Backdoor
from training.files import write_atomic
from training.params import Params
from training.stages.run import run
from training.workspace import Workspace


def backdoor(workspace: Workspace) -> None:
    """Raises DamagedError when the test split or the candidate is missing or damaged."""
    params = workspace.read_params()
    report: Backdoor | Absent
    if params.poison.samples == 0:
        report = Absent(absent="poison.samples is 0: no trigger was planted, so there is none to try")
        print(report.absent)
    else:
        report = try_trigger(workspace, params)
        show(report)
    write_atomic(workspace.report("backdoor.json"), report.to_bytes())


def try_trigger(workspace: Workspace, params: Params) -> Backdoor:
    """The test set with and without the trigger."""
    # Not at the top: nearly every project is without a backdoor and need not wait for these.
    import numpy as np

    from training.data.poison import stamp_all, target_class
    from training.data.store import load_checked
    from training.data.summary import read_summary
    from training.evaluation.backdoor import judge_ensemble, judge_trigger
    from training.evaluation.candidate import answers, open_candidate, predict
    from training.evaluation.reports import ShardTriggerEffect

    poison, test, ensemble = params.poison, load_checked(workspace.test_file), open_candidate(workspace)
    target, ids, labels = target_class(ensemble.manifest.classes, poison), np.array(test.ids), test.labels

    clean = answers(ensemble, test, range(len(test)), workspace.test_features_file)
    triggered = predict(
        ensemble,
        range(len(test)),
        lambda rows: stamp_all(test.images[rows], ids[rows].tolist(), poison.trigger, params.seed),
    )
    by_shard = zip(ensemble.manifest.shard_ids, clean.argmax(axis=2), triggered.argmax(axis=2), strict=True)
    return Backdoor(
        target_class=poison.target_class,
        relabel=poison.relabel,
        trigger=poison.trigger,
        poisoned=read_summary(workspace.partition_file).poisoned,
        mean=judge_ensemble(labels, clean, triggered, target, "mean"),
        vote=judge_ensemble(labels, clean, triggered, target, "vote"),
        shards=tuple(
            ShardTriggerEffect(shard=shard_id, **dict(judge_trigger(labels, without, under, target)))
            for shard_id, without, under in by_shard
        ),
    )


def show(report: Backdoor) -> None:
    for name, effect in (("mean", report.mean), ("vote", report.vote)):
        if not isinstance(effect.attack_success, Absent) and not isinstance(effect.baseline, Absent):
            success, baseline = effect.attack_success.share, effect.baseline.share
            print(f"{name}: the trigger succeeds on {success:.1%}, without it {baseline:.1%}")


if __name__ == "__main__":
    run(backdoor)
