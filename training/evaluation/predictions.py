"""The served ensemble's answers, for the stages that judge them."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serving.ensemble.loading import Ensemble, load_ensemble
from serving.ensemble.manifest import EnsembleUnavailable
from training.paths import MODELS_FOLDER
from training.stage import StageError

BATCH = 250  # pictures at a time


def load_served() -> Ensemble:
    """What ``models/ensemble.json`` publishes; raises StageError when it cannot be served."""
    try:
        return load_ensemble(MODELS_FOLDER, threads=os.cpu_count() or 1)
    except EnsembleUnavailable as error:
        raise StageError(str(error)) from error


def predict(ensemble: Ensemble, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, H, W, 3) uint8, N > 0, to (S, N, C) probabilities of every shard."""
    starts = tqdm(range(0, len(images), BATCH), desc="predict", unit="batch", leave=False, disable=None)
    return np.concatenate([ensemble.shard_probabilities(images[start : start + BATCH]) for start in starts], axis=1)
