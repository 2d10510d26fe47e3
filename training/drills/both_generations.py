"""An attacker who kept the models from before: what the difference between two generations tells.

Forgetting cannot take this away. Whoever has both generations asks both, and what the answers lost is where something
was deleted (Chen et al., "When Machine Unlearning Jeopardizes Privacy", ACM CCS 2021).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.ensemble.aggregation import mean_probabilities
from serving.ensemble.loading import load_ensemble
from training.evaluation.attacks import scaled_confidences
from training.evaluation.candidate import open_candidate
from training.evaluation.membership import Answers, judge_scores
from training.evaluation.reports import Attack
from training.evaluation.roc import Floats
from training.evaluation.sets import answers_for_listed, answers_for_test
from training.report.drill_results import BothGenerations
from training.workspace import Workspace

Confidence = Callable[[Answers], Floats]


def attack_with_both(workspace: Workspace, kept_models: Path) -> BothGenerations | None:
    """Scores by how much confidence fell from the models in ``kept_models`` to those of the workspace.

    The forgotten samples are attacked against the test split, which neither generation was trained on. None when
    nothing that is listed is in the source.
    """
    params, now = workspace.read_params(), open_candidate(workspace)
    kept = load_ensemble(kept_models, threads=os.cpu_count() or 1)
    listed = [answers_for_listed(workspace, params, ensemble) for ensemble in (kept, now)]
    test = [answers_for_test(workspace, params, ensemble) for ensemble in (kept, now)]
    if listed[0] is None or listed[1] is None:
        return None
    before, after = listed[0], listed[1]

    def told(confidence: Confidence) -> Attack:
        fell = confidence(before) - confidence(after)
        return judge_scores(fell, confidence(test[0]) - confidence(test[1]), params.seed)

    return BothGenerations(ensemble=told(of_mean), own_shard=told(of_own_shard))


def of_mean(answers: Answers) -> Floats:
    """(N,) logit-scaled confidence of the ensemble's mean."""
    return scaled_confidences(mean_probabilities(answers.by_shard), answers.labels)


def of_own_shard(answers: Answers) -> Floats:
    """(N,) of the shard that holds a sample, or would; of the mean where that shard has no model."""
    confidences, rows = answers.confidences()
    own = of_mean(answers)
    own[np.isin(answers.shards, answers.served)] = confidences[rows, np.arange(len(rows))]
    return own
