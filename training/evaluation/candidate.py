"""The release candidate's answers, for what judges it before anything else does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serving.ensemble.loading import Ensemble, open_ensemble
from serving.ensemble.manifest import EnsembleUnavailable
from training.data.features import read_features
from training.data.store import Shard
from training.errors import DamagedError
from training.publish.candidate import read_release
from training.workspace import Workspace

PIXELS = 250 * 32 * 32  # at a time: what is in memory does not grow with the images


def open_candidate(workspace: Workspace) -> Ensemble:
    """The models that ``models/release.json`` lists; raises DamagedError when they could not be served."""
    try:
        return open_ensemble(read_release(workspace), workspace.models_folder, threads=os.cpu_count() or 1)
    except EnsembleUnavailable as error:
        raise DamagedError(str(error)) from error


def answers(ensemble: Ensemble, shard: Shard, rows: Sequence[int], features_file: Path) -> NDArray[np.float32]:
    """``predict`` for some ``rows`` of a shard file; from the features beside it, where models take those."""
    if ensemble.backbone is None:
        return predict(ensemble, rows, shard.images.__getitem__)
    features = read_features(features_file)
    features.of(shard)
    return ensemble.head_probabilities(features.rows()[rows])


def predict(
    ensemble: Ensemble, rows: Sequence[int], images: Callable[[Sequence[int]], NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """(S, N, C) probabilities of every shard for N > 0 images.

    ``images``: from some of ``rows`` to their (n, H, W, 3) images; only a batch is asked for at a time.
    """
    tqdm.set_lock(threading.RLock())  # its own is one for many processes, and takes a tenth of a second to import
    height, width, _ = ensemble.manifest.image_shape
    size = max(1, PIXELS // (height * width))
    starts = tqdm(range(0, len(rows), size), desc="predict", unit="batch", leave=False, disable=None)
    return np.concatenate(
        [ensemble.shard_probabilities(images(rows[start : start + size])) for start in starts], axis=1
    )
