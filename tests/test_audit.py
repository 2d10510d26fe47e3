"""The chance that an audit meets a false shard."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.erasure.audit import chance_of_noticing

DOCUMENT = Path(__file__).parents[1] / "docs/audit.md"
TABLE = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in DOCUMENT.read_text().split("| shards | false |")[1].splitlines()[2:]
    if line.startswith("|")
][:15]


def test_worked_out_by_hand() -> None:
    assert chance_of_noticing(5, 1, 1) == pytest.approx(1 / 5)
    assert chance_of_noticing(5, 1, 2) == pytest.approx(2 / 5)
    assert chance_of_noticing(4, 2, 2) == pytest.approx(5 / 6)  # of six pairs one misses both
    assert chance_of_noticing(5, 0, 5) == 0
    assert chance_of_noticing(5, 3, 3) == 1


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(row[:2]))
def test_the_table_of_the_document_is_what_drawing_comes_to(row: list[str]) -> None:
    shards, false = int(row[0]), int(row[1])
    source = random.Random(0)
    for drawn, said in zip((1, 2, 3, 5, 10), row[2:], strict=True):
        if said == "–":
            assert drawn > shards
            continue
        assert said == f"{chance_of_noticing(shards, false, drawn):.3f}"
        met = sum(min(source.sample(range(shards), drawn)) < false for _ in range(4000)) / 4000
        assert met == pytest.approx(float(said), abs=0.04)  # five standard deviations


@given(st.integers(1, 60), st.data())
def test_more_draws_and_more_false_shards_are_noticed_more_often(shards: int, data: st.DataObject) -> None:
    false, drawn = (data.draw(st.integers(0, shards - 1)) for _ in range(2))
    chance = chance_of_noticing(shards, false, drawn)
    assert 0 <= chance <= chance_of_noticing(shards, false + 1, drawn) <= 1
    assert chance <= chance_of_noticing(shards, false, drawn + 1)


def test_more_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="0 false and 6 drawn of 5 shards"):
        chance_of_noticing(5, 0, 6)
