"""Sets that are hard to forget, and an attacker who has both generations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import MODELS, Project, run_stages
from PIL import Image

from training.data.prints import near
from training.drills.choice import Chosen, forget_drill
from training.drills.drill import Drill, run_drill
from training.drills.hard import choose
from training.errors import DrillError
from training.report.drill_results import ForgetResult, Identical, sentences_of
from training.workspace import Workspace

Create = Callable[..., Project]


def test_what_is_memorised_most_is_what_the_own_shard_alone_knows(trained: Project) -> None:
    scores: dict[str, float] = {}
    sessions = [onnxruntime.InferenceSession(trained.workspace.export_file(each)) for each in range(3)]
    for own in range(3):
        shard = trained.shard(own)
        right = [
            session.run(["probabilities"], {"images": shard.images})[0][np.arange(len(shard)), shard.labels]
            for session in sessions
        ]
        others = [right[each] for each in range(3) if each != own]
        scores |= dict(zip(shard.ids, right[own].astype(float) - np.mean(others, axis=0), strict=True))
    chosen = choose(trained.workspace, "memorised", 40)
    assert len(set(chosen)) == 40
    least = min(scores[each] for each in chosen)
    assert all(scores[each] <= least + 1e-5 for each in scores.keys() - set(chosen))
    assert choose(trained.workspace, "memorised", 10) == chosen[:10]
    with pytest.raises(DrillError, match="there are 1442 to train on, and some must stay"):
        choose(trained.workspace, "memorised", 1442)


@pytest.fixture
def with_twins(create: Create) -> Project:
    """Twenty pictures of noise; three of them lie there twice, once a little brighter."""
    project = create("twins", data__source="imagefolder", data__root="photos", sisa__shards=[0, 1], sisa__slices=1)
    random = np.random.default_rng(0)
    for number in range(20):
        pixels = random.integers(0, 240, (40, 40, 3), np.uint8)
        for name, brighter in [(f"{number}", 0), *([(f"again-{number}", 4)] if number < 3 else [])]:
            save(
                project.folder / f"photos/train/{'cat' if number % 2 else 'dog'}/{name}.png",
                pixels + np.uint8(brighter),
            )
    for name in ("cat", "dog"):
        save(project.folder / f"photos/test/{name}/0.png", random.integers(0, 256, (40, 40, 3), np.uint8))
    project.stages("partition")
    return project


def save(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_of_near_copies_one_is_forgotten_and_the_other_stays(with_twins: Project) -> None:
    chosen = choose(with_twins.workspace, "near-copies", 3)
    assert sorted(each.rsplit("/", 1)[1].removeprefix("again-") for each in chosen) == ["0.png", "1.png", "2.png"]
    assert choose(with_twins.workspace, "near-copies", 2) == chosen[:2]
    with pytest.raises(DrillError, match=r"there are 3 samples that have a near copy in training$"):
        choose(with_twins.workspace, "near-copies", 4)
    shards = [with_twins.shard(each) for each in (0, 1)]
    looks = np.concatenate([shard.prints["look"] for shard in shards])
    assert len(near(looks, looks)) == 23 + 2 * 3  # each with itself, and the pairs both ways


def test_pictures_too_small_to_be_compared_are_named_as_the_reason(trained: Project) -> None:
    with pytest.raises(DrillError, match=r"there are 0 samples .*; pictures with a side below 32 pixels"):
        choose(trained.workspace, "near-copies", 1)


def in_process(workspace: Workspace, *stages: str) -> None:
    """What a drill asks DVC for, without DVC."""
    run_stages(workspace, *(*MODELS, *stages))


def forget(project: Project, chosen: Chosen) -> Drill:
    return forget_drill(project.workspace, chosen, seed=None, name="x", command="sisa", include_forgotten=False)


def test_a_class_is_forgotten_as_a_whole(create: Create) -> None:
    project = create("digits")
    drill = forget(project, Chosen(class_name="3"))
    project.stages("partition")
    shards = [project.shard(each) for each in range(3)]
    labels = dict(pair for shard in shards for pair in zip(shard.ids, shard.labels.tolist(), strict=True))
    assert set(drill.sample_ids) == {each for each, label in labels.items() if label == 3}
    assert drill.title == f"Forgetting the class 3, {len(drill.sample_ids)} samples"
    assert drill.hard is None
    with pytest.raises(DrillError, match="--class 'cat': there is no such class; the classes are 0, 1, 2"):
        forget(create("again"), Chosen(class_name="cat"))


def test_a_subject_is_forgotten_by_its_name(create: Create) -> None:
    project = create("subjects", data__subjects="data/subjects/people.csv")
    (project.folder / "data/subjects/people.csv").write_text("sample_id,subject\n0,ann\n5,ann\n7,bob\n")
    drill = forget(project, Chosen(subject="ann"))
    assert (drill.sample_ids, drill.about["samples"]) == (("subject:ann",), 2)
    with pytest.raises(DrillError, match="--subject 'eve': no sample is of this subject"):
        forget(project, Chosen(subject="eve"))


def test_what_is_chosen_by_models_is_not_known_before_there_are_any(create: Create) -> None:
    drill = forget(create("digits"), Chosen(20, "memorised"))
    assert (drill.sample_ids, drill.hard, drill.about["samples"]) == ((), "memorised", 20)
    assert drill.title == "Forgetting the 20 most memorised samples"


@pytest.mark.heavy
@pytest.mark.parametrize("chosen", [Chosen(class_name="3"), Chosen(subject="ann")], ids=["class", "subject"])
def test_what_is_forgotten_as_a_whole_is_as_if_it_had_never_been_there(chosen: Chosen, create: Create) -> None:
    table = "data/subjects/people.csv"
    project = create("project", sisa__slices=1, **({"data__subjects": table} if chosen.subject else {}))
    people = "".join(f"{number},ann\n" for number in range(30))
    (project.folder / table).write_text(f"sample_id,subject\n{people}")
    result = run_drill(project.workspace, forget(project, chosen), run=in_process)
    assert isinstance(result, ForgetResult)
    assert result.identical == Identical(shards=3, of=3)
    assert result.samples == (30 if chosen.subject else 147)
    assert result.both_generations is not None


@pytest.mark.heavy
def test_what_has_a_near_copy_is_forgotten_and_the_copy_stays(with_twins: Project) -> None:
    result = run_drill(with_twins.workspace, forget(with_twins, Chosen(3, "near-copies")), run=in_process)
    columns: Any = result.columns
    assert [columns[step].retained for step in ("before", "after", "retrained")] == [23, 20, 20]
    assert any("A near copy of each of these samples stays" in sentence for sentence in sentences_of(result))
