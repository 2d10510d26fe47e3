import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from serving.ensemble.aggregation import choose, count_votes, mean_probabilities
from serving.ensemble.loading import load_ensemble, open_ensemble
from serving.ensemble.manifest import EnsembleUnavailable, Manifest, Release, parse_manifest, parse_release

# (S, N, C) with many ties: tenths, not normalised, which no function here relies on.
PROBABILITIES = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(2, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(0, 10).map(lambda tenths: np.float32(tenths / 10)))
)


def test_three_shards_by_hand() -> None:
    # Two shards find class 0 a little more probable, one is sure of class 1.
    probabilities = np.array([[[0.6, 0.4]], [[0.6, 0.4]], [[0.0, 1.0]]], np.float32)
    mean, votes = mean_probabilities(probabilities), count_votes(probabilities)
    assert mean[0] == pytest.approx([0.4, 0.6])
    assert votes.tolist() == [[2, 1]]
    assert choose(mean, votes, "mean").tolist() == [1]
    assert choose(mean, votes, "vote").tolist() == [0]


def test_a_tied_vote_goes_to_the_class_of_higher_mean_probability() -> None:
    probabilities = np.array([[[0.6, 0.4, 0.0]], [[0.1, 0.9, 0.0]]], np.float32)
    mean, votes = mean_probabilities(probabilities), count_votes(probabilities)
    assert votes.tolist() == [[1, 1, 0]]
    assert choose(mean, votes, "vote").tolist() == [1]


def test_a_class_without_votes_never_wins_a_vote() -> None:
    # Class 2 has the highest mean, 0.4, and no vote; classes 0 and 1 have one each.
    probabilities = np.array([[[0.6, 0.0, 0.4]], [[0.0, 0.6, 0.4]]], np.float32)
    assert choose(mean_probabilities(probabilities), count_votes(probabilities), "vote").tolist() == [0]


@given(PROBABILITIES)
def test_votes_and_labels_against_brute_force(probabilities: NDArray[np.float32]) -> None:
    mean, votes = mean_probabilities(probabilities), count_votes(probabilities)
    by_mean, by_vote = choose(mean, votes, "mean"), choose(mean, votes, "vote")
    for sample in range(probabilities.shape[1]):
        ballots = Counter(int(np.argmax(shard[sample])) for shard in probabilities)
        assert votes[sample].tolist() == [ballots[label] for label in range(probabilities.shape[2])]
        most = max(ballots.values())
        leaders = [label for label, count in sorted(ballots.items()) if count == most]
        assert by_vote[sample] == max(leaders, key=lambda label: mean[sample, label])
        assert by_mean[sample] == max(range(probabilities.shape[2]), key=lambda label: mean[sample, label])


@given(PROBABILITIES, st.randoms())
def test_the_order_of_shards_changes_no_vote(probabilities: NDArray[np.float32], random: object) -> None:
    order = list(range(len(probabilities)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert (count_votes(probabilities[order]) == count_votes(probabilities)).all()


def bias_model(bias: list[float]) -> bytes:
    """A model that answers the same probabilities, softmax(bias), to every picture of side 2."""
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=types.FLOAT),
            helper.make_node("ReduceSum", ["floats", "axes"], ["sums"], keepdims=0),
            helper.make_node("Mul", ["sums", "zero"], ["nothing"]),
            helper.make_node("Unsqueeze", ["nothing", "last"], ["column"]),
            helper.make_node("Add", ["column", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "bias",
        [helper.make_tensor_value_info("images", types.UINT8, ["N", 2, 2, 3])],
        [helper.make_tensor_value_info("probabilities", types.FLOAT, ["N", len(bias)])],
        [
            onnx.numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"),
            onnx.numpy_helper.from_array(np.array([1]), "last"),
            onnx.numpy_helper.from_array(np.array(bias, np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Shards 0 and 2 with a model each; shard 1 abstains."""
    import hashlib

    (tmp_path / "onnx").mkdir()
    shards: list[dict[str, object]] = [
        {"shard": 1, "retained": 0, "key": "k1", "abstains": True, "file": None, "sha256": None}
    ]
    for shard_id, bias in ((0, [0.0, 0.0]), (2, [0.0, np.log(3)])):
        content = bias_model(bias)
        (tmp_path / f"onnx/shard-{shard_id}.onnx").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        file = f"onnx/shard-{shard_id}.onnx"
        shards.append(
            {"shard": shard_id, "retained": 9, "key": f"k{shard_id}", "abstains": False, "file": file, "sha256": digest}
        )
    shards.sort(key=lambda shard: str(shard["shard"]))
    manifest = {
        "generation": 4,
        "classes": ["a", "b"],
        "image_shape": [2, 2, 3],
        "aggregation": "mean",
        "forgotten": {"listed": 0, "already_gone": 0, "sha256": "none"},
        "shards": shards,
    }
    (tmp_path / "ensemble.json").write_text(json.dumps(manifest))
    return tmp_path


def test_every_shard_that_has_a_model_answers_in_order(models: Path) -> None:
    ensemble = load_ensemble(models, threads=2)
    assert ensemble.manifest.shard_ids == (0, 2)
    probabilities = ensemble.shard_probabilities(np.zeros((3, 2, 2, 3), np.uint8))
    assert probabilities.shape == (2, 3, 2)
    assert probabilities[0] == pytest.approx(np.full((3, 2), 0.5))
    assert probabilities[1] == pytest.approx(np.tile([0.25, 0.75], (3, 1)))  # softmax(0, ln 3)


def test_a_model_other_than_the_listed_one_is_refused(models: Path) -> None:
    (models / "onnx/shard-2.onnx").write_bytes(bias_model([1.0, 1.0]))
    with pytest.raises(EnsembleUnavailable, match=r"shard-2\.onnx has sha256 .* the manifest lists"):
        load_ensemble(models, threads=1)


def test_a_missing_model_says_what_to_do(models: Path) -> None:
    (models / "onnx/shard-0.onnx").unlink()
    with pytest.raises(EnsembleUnavailable, match=r"shard-0\.onnx cannot be read .* `sisa publish`"):
        load_ensemble(models, threads=1)


def test_an_execution_provider_that_is_not_there_is_an_error_not_a_warning(models: Path) -> None:
    with pytest.raises(EnsembleUnavailable, match="provider cuda was asked for, but this onnxruntime has only"):
        load_ensemble(models, threads=1, provider="cuda")


def test_a_model_of_another_picture_size_is_refused(models: Path) -> None:
    manifest = json.loads((models / "ensemble.json").read_text())
    (models / "ensemble.json").write_text(json.dumps({**manifest, "image_shape": [4, 4, 3]}))
    with pytest.raises(EnsembleUnavailable, match="takes"):
        load_ensemble(models, threads=1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"generation": "x"}'])
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ensemble.json").write_text(text)
    with pytest.raises(EnsembleUnavailable, match="is not a manifest"):
        load_ensemble(tmp_path, threads=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file": None, "sha256": None}, "shard 2 must either abstain or have a file"),
        ({"abstains": True}, "shard 2 must either abstain or have a file"),
        ({"pending": True}, "shard 2 is pending, so it must abstain and have neither file nor sha256"),
        ({"pending": True, "abstains": True, "file": None}, "shard 2 is pending, so it must abstain"),
        ({"abstains": True, "file": None, "earlier_slice": 1}, "shard 2 abstains, so it cannot answer from an earlier"),
        ({"earlier_slice": -1}, "earlier_slice: Input should be greater than or equal to 0"),
        ({"shard": 0}, "a shard is listed twice"),
    ],
)
def test_a_manifest_that_would_lose_or_double_a_vote_is_refused(
    models: Path, change: dict[str, object], reason: str
) -> None:
    manifest = json.loads((models / "ensemble.json").read_text())
    manifest["shards"][2] |= change
    (models / "ensemble.json").write_text(json.dumps(manifest))
    with pytest.raises(EnsembleUnavailable, match=reason):
        load_ensemble(models, threads=1)


def test_a_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnsembleUnavailable, match="is missing; run `sisa publish`, after `dvc repro` or `dvc pull`"):
        load_ensemble(tmp_path, threads=1)


def test_a_manifest_comes_back_as_it_was_written_and_has_one_spelling(models: Path) -> None:
    manifest = parse_manifest((models / "ensemble.json").read_bytes(), models / "ensemble.json")
    written = manifest.model_copy(update={"classes": ("Bär", "b")}).to_bytes()
    again = parse_manifest(written, Path("x"))
    assert (again.generation, again.classes) == (4, ("Bär", "b"))
    assert again.to_bytes() == written
    assert "Bär" in written.decode()
    assert written.startswith(b'{\n  "')
    assert written.endswith(b"}\n")


def test_a_release_that_is_not_published_is_opened_from_any_folder(models: Path, tmp_path: Path) -> None:
    """As training judges it: the same models, and no generation yet."""
    document = json.loads((models / "ensemble.json").read_text())
    del document["generation"]
    release = parse_release(json.dumps(document).encode(), Path("release.json"))
    assert isinstance(release, Release)
    assert not isinstance(release, Manifest)
    ensemble = open_ensemble(release, models, threads=1)
    assert (ensemble.generation, ensemble.digest) == (0, "")
    assert ensemble.shard_probabilities(np.zeros((1, 2, 2, 3), np.uint8)).shape == (2, 1, 2)
    with pytest.raises(EnsembleUnavailable, match="cannot be read"):
        open_ensemble(release, tmp_path / "elsewhere", threads=1)
    with pytest.raises(EnsembleUnavailable, match=r"release\.json is not a manifest: generation: Field required"):
        parse_manifest(release.to_bytes(), Path("release.json"))


def test_fields_that_have_their_defaults_change_no_byte_of_a_release(models: Path) -> None:
    """Digests of releases that were published before there were such fields stay what they were."""
    document = json.loads((models / "ensemble.json").read_text())
    manifest = parse_manifest(json.dumps(document).encode(), Path("x"))
    assert json.loads(manifest.to_bytes()) == document
    assert not any(shard.pending or shard.earlier_slice is not None for shard in manifest.shards)
    assert manifest.ledger is None


def test_a_pending_shard_an_earlier_slice_and_the_ledgers_head_travel_in_the_manifest(models: Path) -> None:
    document = json.loads((models / "ensemble.json").read_text())
    document["shards"][0] |= {"earlier_slice": 3}
    document["shards"][2] |= {"abstains": True, "file": None, "sha256": None, "pending": True}
    document["ledger"] = {"length": 12, "head": "ab" * 32}
    manifest = parse_manifest(json.dumps(document).encode(), Path("x"))
    assert json.loads(manifest.to_bytes()) == document
    assert [shard.shard for shard in manifest.voters] == [0]
    with pytest.raises(EnsembleUnavailable, match=r"ledger\.head: String should match"):
        parse_manifest(json.dumps({**document, "ledger": {"length": 1, "head": "AB"}}).encode(), Path("x"))


def test_a_manifest_whose_every_shard_is_pending_is_one_and_nobody_answers(models: Path) -> None:
    document = json.loads((models / "ensemble.json").read_text())
    for shard in document["shards"]:
        shard |= {"abstains": True, "file": None, "sha256": None}
    with pytest.raises(EnsembleUnavailable, match="lists no shard that has a model"):
        parse_manifest(json.dumps(document).encode(), Path("x"))
    document["shards"][0]["pending"] = True
    assert parse_manifest(json.dumps(document).encode(), Path("x")).voters == ()


def test_a_release_without_a_digest_has_the_shard_pending_and_nothing_else_changed(models: Path) -> None:
    manifest = parse_manifest((models / "ensemble.json").read_bytes(), Path("x"))
    gone = manifest.shards[2].sha256
    assert gone is not None
    left = manifest.without({gone, "0" * 64})
    assert left.shards[:2] == manifest.shards[:2]
    assert (left.shards[2].pending, left.shards[2].abstains, left.shards[2].file) == (True, True, None)
    assert (left.shards[2].key, left.shards[2].retained) == ("k2", 9)
    assert parse_manifest(left.to_bytes(), Path("x")) == left
    assert manifest.without({"0" * 64}) is manifest


def test_the_manifest_and_aggregation_are_to_be_had_without_onnxruntime() -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import serving.ensemble.manifest, serving.ensemble.aggregation, serving.ensemble.robustness\n"
        "import serving.ensemble.turnout\n"
        "import serving.pictures.decoding\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], check=True)
