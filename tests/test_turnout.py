"""How many shards answer, and how many must."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server import FLAT, publish

from serving.ensemble.manifest import parse_manifest
from serving.ensemble.turnout import shards_needed, turnout


@pytest.mark.parametrize(
    ("of", "quorum", "needed"),
    [
        (5, 0.5, 3),  # 2.5
        (4, 0.5, 2),  # exactly
        (1, 0.5, 1),
        (20, 0.55, 11),  # floating point makes 11.000000000000002 of it
        (10, 0.7, 7),
        (3, 1, 3),
        (5, 0, 1),  # none at all cannot answer
        (5, 0.01, 1),
    ],
)
def test_shards_needed_by_hand(of: int, quorum: float, needed: int) -> None:
    assert shards_needed(of, quorum) == needed


@given(st.integers(1, 400), st.integers(0, 1000))
def test_as_many_as_are_needed_are_the_share_and_one_fewer_is_not(of: int, thousandths: int) -> None:
    needed = shards_needed(of, thousandths / 1000)
    assert 1 <= needed <= of
    assert 1000 * needed >= thousandths * of
    assert needed == 1 or 1000 * (needed - 1) < thousandths * of


def test_a_shard_without_samples_does_not_count_and_a_pending_one_does(tmp_path: Path) -> None:
    publish(tmp_path, 1, [FLAT, None, (1, 0, 0), (2, 0, 0)])
    manifest = parse_manifest((tmp_path / "ensemble.json").read_bytes(), tmp_path)
    earlier = manifest.shards[3].model_copy(update={"earlier_slice": 2})
    manifest = manifest.model_copy(update={"shards": (*manifest.shards[:3], earlier)})
    assert turnout(manifest).model_dump() == {"answered": 3, "of": 3, "pending": (), "earlier_slice": (3,)}
    withdrawn = {shard.sha256 for shard in manifest.shards[:1] if shard.sha256 is not None}
    assert turnout(manifest.without(withdrawn)).model_dump() == {
        "answered": 2,
        "of": 3,
        "pending": (0,),
        "earlier_slice": (3,),
    }
