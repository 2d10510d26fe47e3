"""`sisa where`: shard, slice and cost of a sample, by id, by subject, by picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Project
from test_prints import photograph

from training.errors import RequestError
from training.forgetting.add import add
from training.forgetting.where import total, where


def test_a_sample_is_where_the_shard_files_have_it_and_costs_what_training_from_its_slice_on_costs(
    trained: Project,
) -> None:
    victim = trained.victim(1, 1)
    (place,) = where(trained.workspace, victim)
    assert (place.sample, place.found, place.shard, place.slice) == (victim, "id", 1, 1)
    assert (place.answers, place.forgotten) == (True, False)
    assert place.cost is not None
    counts = [trained.shard(1).slices.tolist().count(r) for r in range(3)]
    assert place.cost.slices == 2
    assert place.cost.sample_epochs == (counts[0] + counts[1]) + sum(counts)  # one epoch a slice
    add(trained.workspace, [victim])
    (place,) = where(trained.workspace, victim)
    assert (place.answers, place.forgotten, place.shard) == (False, True, 1)  # its pixels are still in the shard file
    trained.stages("partition")
    (place,) = where(trained.workspace, victim)
    assert (place.answers, place.forgotten, place.shard) == (False, True, None)


def test_nothing_is_made_up_of_what_is_not_known(trained: Project) -> None:
    with pytest.raises(RequestError, match="nothing is known of '99999'"):
        where(trained.workspace, "99999")


def test_a_picture_is_found_by_its_pixels_whatever_its_name(create: Callable[..., Project], tmp_path: Path) -> None:
    project = create("pictures", data__source="imagefolder", data__root="pictures")
    for number in range(24):
        split, name = "test" if number % 4 == 0 else "train", ("cat", "dog")[number % 2]
        path = project.folder / f"pictures/{split}/{name}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photograph(top=10 * number, left=20 * number)).save(path)
    project.stages("partition", "schedule")
    shard = project.shard(0)
    sample_id = shard.ids[0]
    original = PIL.Image.open(project.folder / "pictures/train" / sample_id)
    elsewhere = tmp_path / "from a mail.png"
    original.save(elsewhere)
    (place,) = [place for place in where(project.workspace, str(elsewhere)) if place.found == "same picture"]
    assert (place.sample, place.shard, place.slice) == (sample_id, 0, int(shard.slices[0]))
    original.convert("RGB").resize((96, 96)).save(tmp_path / "larger.jpg", quality=80)
    found = where(project.workspace, str(tmp_path / "larger.jpg"))
    assert (sample_id, "near picture") in [(place.sample, place.found) for place in found]
    PIL.Image.fromarray(np.full((48, 48, 3), 7, np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(RequestError, match="no picture that looks like one"):
        where(project.workspace, str(tmp_path / "other.png"))


def test_a_forgotten_picture_is_found_too_by_its_id_or_by_its_request(trained: Project, tmp_path: Path) -> None:
    workspace, victim = trained.workspace, trained.victim(1, 1)
    path = tmp_path / "from a mail.png"
    PIL.Image.fromarray(trained.shard(1).images[trained.shard(1).ids.index(victim)]).save(path)
    add(workspace, [victim], name="ticket")
    trained.stages("partition")
    (place,) = where(workspace, str(path))
    assert (place.sample, place.found, place.shard, place.forgotten) == (victim, "same picture", None, True)
    (trained.folder / "forget/private/ticket.json").unlink()
    (place,) = where(workspace, str(path))
    assert (place.sample, place.forgotten) == ("a sample that ticket asked to forget", True)


def test_a_batch_costs_each_shard_once(trained: Project) -> None:
    places = [place for r in (1, 2) for place in where(trained.workspace, trained.victim(1, r))]
    assert places[0].cost is not None
    assert total(places) == places[0].cost.sample_epochs


def test_the_command_prints_a_table_or_json(trained: Project) -> None:
    victim = trained.victim(2, 0)
    assert " 3 slices" in trained.run("sisa", "where", victim).stdout
    document = json.loads(trained.run("sisa", "where", victim, "--json").stdout)
    assert document["places"][0]["shard"] == 2
    assert trained.run("sisa", "where", "99999", check=False).returncode == 1
