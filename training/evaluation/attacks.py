"""What a model's answers give away of its training: from probabilities to one number a sample.

An attack by such a score is as good as the score tells members from non-members (``roc``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.reports import Uncomputable
from training.evaluation.roc import Floats, Ints

TINY = float(np.finfo(np.float32).tiny)  # the models answer in float32: nothing smaller can be told from 0


def cross_entropies(probabilities: NDArray[np.float32], labels: Ints) -> Floats:
    """-ln p(label) in nats, in [0, 87.3]: of probabilities as they are, no second softmax.

    ``probabilities``: (..., N, C), ``labels``: (N,); returns (..., N).
    """
    hit = probabilities[..., np.arange(len(labels)), labels].astype(np.float64)
    loss: Floats = -np.log(np.clip(hit, TINY, 1))
    return loss


def scaled_confidences(probabilities: NDArray[np.float32], labels: Ints) -> Floats:
    """Logit-scaled confidence ln p(label) - ln Σ p(other classes), nearly normal over models.

    Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022; the sum over
    the other classes keeps apart what 1 - p(label) would round to 0. Shapes as above.
    """
    hit = np.eye(probabilities.shape[-1], dtype=bool)[labels]
    right = np.where(hit, probabilities, 0).sum(axis=-1, dtype=np.float64)
    wrong = np.where(hit, 0, probabilities).sum(axis=-1, dtype=np.float64)
    scaled: Floats = np.log(np.clip(right, TINY, None)) - np.log(np.clip(wrong, TINY, None))
    return scaled


def likelihood_ratio(confidences: Floats, held_by: Ints) -> Floats:
    """How far above chance the holding shard's confidence is, in standard deviations, sample by sample.

    The offline variant of LiRA (Carlini et al., IEEE S&P 2022) with what SISA provides:
    for a sample of shard k, the S-1 other shards are models that were trained alike and never held
    it, its *out* models. Their mean says how easy the sample is. ``confidences``: (S, N)
    logit-scaled, ``held_by``: (N,) row of the shard that holds the sample, or would hold it.
    Under "never seen", the score is nearly standard normal.

    Limits: S-1 models are few, so all samples share one variance (as theirs do
    when shadow models are few); there are no *in* models, so the test is one-sided; it needs every shard's own answer,
    which is more than the ensemble's mean gives away. Raises Uncomputable below three shards.
    """
    shards, samples = confidences.shape
    if shards < 3:
        raise Uncomputable(
            f"needs the spread of at least two shards that never held a sample; there are {shards} in all"
        )
    if not samples:
        raise Uncomputable("there are no samples")
    out = np.ones((shards, samples), bool)
    out[held_by, np.arange(samples)] = False
    outside = confidences.T[out.T].reshape(samples, shards - 1)
    variance = outside.var(axis=1, ddof=1).mean()
    if variance == 0:
        raise Uncomputable("the shards that never held a sample agree to the last bit: their spread is 0")
    held = confidences[held_by, np.arange(samples)]
    # 1 + 1/(S-1): one more model of the kind, against a mean that is itself an estimate.
    ratio: Floats = (held - outside.mean(axis=1)) / np.sqrt(variance * (1 + 1 / (shards - 1)))
    return ratio
