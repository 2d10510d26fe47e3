from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.ensemble.loading import Ensemble
from serving.ensemble.manifest import Forgotten, Release, ShardEntry
from training.errors import DamagedError
from training.evaluation.candidate import PIXELS, open_candidate, predict
from training.workspace import Workspace

RELEASE = Release(
    aggregation="mean",
    classes=("a", "b"),
    image_shape=(320, 320, 3),
    forgotten=Forgotten(listed=0, already_gone=0, sha256=""),
    shards=(ShardEntry(shard=0, retained=1, key="", abstains=False, file="exports/shard-0.onnx", sha256="00"),),
)


class Brightness(Ensemble):
    """One shard, which finds class b as probable as the first pixel is bright."""

    def __init__(self) -> None:
        super().__init__(RELEASE, "", (), ThreadPoolExecutor(1))

    def shard_probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        bright = images[:, 0, 0, 0] / 255
        return np.stack([1 - bright, bright], axis=1)[None].astype(np.float32)


def test_images_are_asked_for_a_batch_at_a_time_and_answered_in_their_order() -> None:
    asked = []

    def images(rows: Sequence[int]) -> NDArray[np.uint8]:
        asked.append(list(rows))
        return np.array(rows, np.uint8)[:, None, None, None] * np.ones((1, 320, 320, 3), np.uint8)

    answers = predict(Brightness(), [7, 3, 255, 0, 9], images)
    assert PIXELS // 320**2 == 2
    assert asked == [[7, 3], [255, 0], [9]]
    assert answers[0, :, 1] * 255 == pytest.approx([7, 3, 255, 0, 9])


def test_a_candidate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"release\.json is missing"):
        open_candidate(Workspace(tmp_path))


def test_a_candidate_whose_model_is_missing_or_another_one_is_damaged(tmp_path: Path) -> None:
    model = tmp_path / "models/exports/shard-0.onnx"
    model.parent.mkdir(parents=True)
    (tmp_path / "models/release.json").write_bytes(RELEASE.to_bytes())
    with pytest.raises(DamagedError, match=r"shard-0\.onnx cannot be read"):
        open_candidate(Workspace(tmp_path))
    model.write_bytes(b"another")
    with pytest.raises(DamagedError, match=r"shard-0\.onnx has sha256 .*, the manifest lists 00"):
        open_candidate(Workspace(tmp_path))
