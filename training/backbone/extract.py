"""The features of pictures, by a frozen backbone in onnxruntime.

Letters: N images, H = W their side, D features.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from serving.ensemble.backbone import Backbone, check_backbone
from serving.ensemble.loading import CUDA, Provider, verified_session
from serving.ensemble.manifest import EnsembleUnavailable
from training.backbone.check import check_size
from training.data.features import Maker
from training.errors import BackboneError

GPUS = Path("/proc/driver/nvidia/gpus")
BATCH = 64  # images computed together, always as many: on a GPU their number may decide how a sum is taken


class Extractor:
    """A backbone that is open. ``maker``: what its features are the features of."""

    def __init__(self, path: Path, image_size: int, device: str) -> None:
        """``device``: ``auto``, ``cpu`` or ``cuda``. Raises BackboneError when the file is not a backbone for images
        of this size, or the device is not there."""
        provider: Provider = "cpu" if device == "cpu" else "cuda" if device == "cuda" else "auto"
        threads, sha256 = os.cpu_count() or 1, check_size(path, image_size).sha256
        try:
            session = verified_session(path, sha256, provider)
            check_backbone(session, (image_size, image_size, 3), str(path))
        except EnsembleUnavailable as error:
            raise BackboneError(f"network.backbone: {error}") from error
        self.maker = maker(sha256, session.get_providers()[0])
        on_gpu = self.maker.provider == CUDA
        self.backbone = Backbone(session, ThreadPoolExecutor(threads, "features"), 1 if on_gpu else threads)
        self.image_size = image_size

    def features(self, images: NDArray[np.uint8], on_batch: Callable[[int], object]) -> NDArray[np.float32]:
        """(N, H, H, 3) uint8 to (N, D). ``on_batch`` is told how many were computed, after each batch."""
        rows = np.empty((len(images), self.backbone.width), np.float32)
        batch = np.zeros((BATCH, self.image_size, self.image_size, 3), np.uint8)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            batch[: len(part)] = part
            rows[start : start + len(part)] = self.backbone.features(batch)[: len(part)]
            on_batch(len(part))
        return rows


def maker(sha256: str, provider: str) -> Maker:
    """This environment with a backbone of this digest."""
    blas = sorted({str(info.get("architecture")) for info in threadpool_info() if info["user_api"] == "blas"})
    gpus = gpu_models(GPUS) if provider == CUDA else []
    return Maker(
        backbone=sha256,
        onnxruntime=onnxruntime.__version__,
        provider=provider,
        instructions=" ".join([platform.machine(), *blas, *gpus]),
    )


def gpu_models(folder: Path) -> list[str]:
    """The models of the GPUs that NVIDIA's driver lists, sorted: another one may add up in another order."""
    found = (re.search(r"^Model:\s*(.+?)\s*$", path.read_text(), re.M) for path in folder.glob("*/information"))
    return sorted({match[1] for match in found if match})
