"""The stages that judge forgetting, on the real pipeline: what they must catch, and what they must not claim."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from PIL import Image

from training.errors import DamagedError

Create = Callable[..., Project]


def report(project: Project, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((project.folder / f"reports/{name}.json").read_text())
    return document


@pytest.fixture
def memoriser(create: Create, tmp_path: Path) -> Project:
    """Pictures of noise with no rule behind their labels, trained until they are known by heart."""
    random = np.random.default_rng(0)
    for split, count in (("train", 100), ("test", 75)):
        for label in "ab":
            folder = tmp_path / "noise" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    project = create(
        "memoriser",
        data__source="imagefolder",
        data__root=str(tmp_path / "noise"),
        sisa__slices=1,
        training__epochs_per_slice=40,
        training__batch_size=16,
        training__augmentation="none",
        forget__apply=False,
    )
    project.forget(*(f"{label}/{number}.png" for label in "ab" for number in range(30)))
    return project


def test_a_monitored_list_is_recognised_while_it_is_trained_on_and_no_longer_once_forgotten(
    memoriser: Project,
) -> None:
    memoriser.stages()
    before = report(memoriser, "membership")
    assert (before["list"]["applied"], before["list"]["listed"], before["forget"]["samples"]) == (False, 60, 60)
    assert before["forget"]["own_shard_confidence"]["auc"] > 0.9
    assert before["forget"]["likelihood_ratio"]["interval"][0] > 0.7  # by two shards' measure of what is usual
    assert before["forget"]["ensemble_loss"]["interval"][0] > 0.6  # two shards of three never held a sample

    memoriser.change(forget__apply=True)
    memoriser.stages()
    after = report(memoriser, "membership")
    assert (after["list"]["applied"], after["list"]["listed"]) == (True, 60)
    assert after["list"]["sha256"] == before["list"]["sha256"]
    for attack in ("ensemble_loss", "own_shard_confidence", "likelihood_ratio"):
        # Not `< high`: a shard that loses more of one class leans to the other, so what it lost may look less
        # familiar than what nobody ever had.
        assert after["forget"][attack]["interval"][0] < 0.5
    # What is retained is recognised as before (0.89 to 0.99 with four seeds): the attack has not lost its edge.
    assert after["training"]["own_shard_confidence"]["auc"] > 0.8


def test_without_a_list_there_is_no_number_for_it_but_the_reason(trained: Project) -> None:
    trained.stages("membership", "backdoor")
    judged = report(trained, "membership")
    assert judged["forget"] == {"absent": "the forget lists name no sample whose picture is still in the source"}
    assert 0.3 < judged["training"]["ensemble_loss"]["auc"] < 0.7
    assert judged["training"]["ensemble_loss"]["tpr_at_fpr_0.01"] == {
        "absent": "needs 1,000 samples never trained on, so that ten may be mistaken; there are 355"
    }
    assert report(trained, "backdoor") == {
        "absent": "poison.samples is 0: no trigger was planted, so there is none to try"
    }


def test_a_forgotten_sample_of_a_shard_that_abstains_has_no_own_shard_to_be_attacked(trained: Project) -> None:
    ids = trained.shard(0).ids
    trained.forget(*ids)
    trained.stages()
    judged = report(trained, "membership")["forget"]
    assert judged["samples"] == len(ids)
    assert "there are 0 and" in judged["own_shard_confidence"]["auc"]["absent"]
    assert "at least two shards that never held a sample; there are 2 in all" in judged["likelihood_ratio"]["absent"]
    assert 0 <= judged["ensemble_loss"]["auc"] <= 1


def test_poison_retrains_what_it_touches_and_taking_it_out_gives_the_same_models_back(trained: Project) -> None:
    before = trained.models()
    trained.change(poison__trigger__value=0)  # of a trigger that is not planted
    trained.stages("partition", "schedule")
    assert trained.models() == before

    trained.change(poison__samples=1)
    trained.stages("partition", "schedule", "train", "assemble", "backdoor")
    (shard_id,) = np.flatnonzero(report(trained, "backdoor")["poisoned"]["retained"])
    differing = [path for path, content in trained.models().items() if before.get(path) != content]
    shards = {path.split("shard-")[1][0] for path in differing if "shard-" in path}
    assert shards == {str(shard_id)}

    trained.change(poison__samples=0)
    trained.stages("partition", "schedule", "train", "assemble")
    assert trained.models() == before


def test_a_damaged_test_image_is_not_judged(trained: Project) -> None:
    path = trained.workspace.test_file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for stage in ("evaluate", "membership"):
        with pytest.raises(DamagedError, match=r"test\.npy is damaged \(the image of"):
            trained.stages(stage)


@pytest.mark.parametrize("content", ["{}", '{"classes": 5}', "[]", "damaged"])
def test_a_damaged_summary_of_the_partition_is_named(trained: Project, content: str) -> None:
    trained.workspace.partition_file.write_text(content)
    for stage in ("schedule", "assemble", "membership"):
        with pytest.raises(DamagedError, match=r"partition\.json is damaged"):
            trained.stages(stage)
