from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import load_yaml

from training.errors import ParamsError
from training.learning import by_sgd, trained_network
from training.params import load_params

PROFILES = sorted((Path(__file__).parents[1] / "profiles").glob("*.yaml"))
DIGITS = yaml.safe_load((Path(__file__).parents[1] / "profiles/digits.yaml").read_text())


def load(tmp_path: Path, document: Any) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    return str(caught.value)


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**DIGITS, section: {**DIGITS[section], **values}}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid(path: Path) -> None:
    load_params(path)


def test_the_committed_parameters_are_the_digits_profile() -> None:
    root = Path(__file__).parents[1]
    assert (root / "params.yaml").read_bytes() == (root / "profiles/digits.yaml").read_bytes()


def test_the_reference_profile_is_the_reference_experiment() -> None:
    params = load_params(Path(__file__).parents[1] / "profiles/cifar10-reference.yaml")
    assert (params.network.name, trained_network(params.network).weights) == ("resnet18", "imagenet")
    recipe = by_sgd(params.training)
    assert (recipe.epochs_per_slice, recipe.learning_rate, recipe.momentum, recipe.batch_size) == (5, 0.001, 0.9, 64)
    assert (recipe.schedule, recipe.weight_decay, recipe.nesterov) == ("constant", 0, False)


def test_the_scratch_profile_differs_from_the_reference_in_its_weights_alone() -> None:
    folder = Path(__file__).parents[1] / "profiles"
    reference, scratch = (
        yaml.safe_load((folder / f"cifar10-reference{name}.yaml").read_text()) for name in ("", "-scratch")
    )
    assert scratch["network"].pop("weights") == "none"
    assert reference["network"].pop("weights") == "imagenet"
    assert scratch == reference


def test_the_drill_profile_is_that_of_cifar10_at_a_quarter_of_its_cost() -> None:
    folder = Path(__file__).parents[1] / "profiles"
    full, drill = (load_params(folder / f"cifar10{name}.yaml") for name in ("", "-drill"))
    # Sample-epochs of a full training, by sample: epochs · Σ r/R = epochs · (R + 1)/2: 16.5 and 4.5.
    assert [each.training.epochs_per_slice * (each.sisa.slices + 1) / 2 for each in (full, drill)] == [16.5, 4.5]
    assert (drill.data, drill.network, drill.poison, drill.seed) == (full.data, full.network, full.poison, full.seed)
    other = {"epochs_per_slice", "augmentation", "label_smoothing", "weight_decay"}
    assert drill.training.model_dump(exclude=other) == full.training.model_dump(exclude=other)


def test_a_misspelt_key_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    document = changed("training", lerning_rate=0.1)
    del document["training"]["learning_rate"]
    message = load(tmp_path, document)
    assert "training.lerning_rate: no such key (misspelt?); allowed here: method, epochs_per_slice," in message
    assert "learning_rate," in message
    assert "training.learning_rate: missing" in message


def test_a_misspelt_section_is_named(tmp_path: Path) -> None:
    assert "sysa: no such key (misspelt?); allowed here: seed, device, data, sisa, network, training" in load(
        tmp_path, {**DIGITS, "sysa": {}}
    )


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("training", {"learning_rate": 0}, "training.learning_rate: input should be greater than 0, found 0"),
        ("training", {"learning_rate": ".nan"}, "training.learning_rate"),
        ("training", {"momentum": 1}, "training.momentum: input should be less than 1, found 1"),
        ("training", {"batch_size": 1}, "training.batch_size: input should be greater than or equal to 2, found 1"),
        ("training", {"batch_size": True}, "training.batch_size: expected a number, not true or false, found True"),
        (
            "training",
            {"schedule": "cosine"},
            "training.schedule: input should be 'constant' or 'one-cycle', found 'cosine'",
        ),
        ("training", {"momentum": 0}, "training: nesterov: true needs a momentum above 0, got 0"),
        ("sisa", {"slices": 0}, "sisa.slices: input should be greater than or equal to 1, found 0"),
        (
            "sisa",
            {"shards": None},
            "sisa.shards: expected a number of shards, or a list written out, [0, 1, ..., S-1], found None",
        ),
        ("sisa", {"shards": [[0, 1], [2]]}, "sisa.shards.0: input should be a valid integer, found [0, 1]"),
        ("sisa", {"shards": [0, 1.0]}, "sisa.shards.1: expected a whole number, written without a point, found 1.0"),
        ("sisa", {"shards": ["0", 1]}, "sisa.shards.0: expected a number, not text, found '0'"),
        (
            "sisa",
            {"shards": {"a": 0}},
            "sisa.shards: expected a number of shards, or a list written out, [0, 1, ..., S-1]",
        ),
        ("sisa", {"shards": []}, "sisa: shards must be the list [0, 1, ..., S-1], got []"),
        ("sisa", {"shards": [0, 2]}, "sisa: shards must be the list [0, 1, ..., S-1], got [0, 2]"),
        ("sisa", {"shards": 0}, "sisa.shards: expected 1 to 100,000 shards, found 0"),
        ("sisa", {"shards": True}, "sisa.shards: expected a number of shards, or a list written out"),
        ("sisa", {"blocks": [0, 1, 2]}, "sisa.blocks: input should be a valid integer, found [0, 1, 2]"),
        ("sisa", {"blocks": 11}, "sisa.blocks: input should be less than or equal to 10, found 11"),
        ("sisa", {"shards": 5.0}, "sisa.shards: expected a number of shards, or a list written out"),
        (
            "data",
            {"source": "mnist"},
            "data.source: input should be 'digits', 'cifar10' or 'imagefolder', found 'mnist'",
        ),
        ("data", {"root": 5}, "data.root: input is not a valid path"),
        ("data", {"root": None}, "data.root: input is not a valid path"),
        ("data", {"root": ""}, "data.root: expected a folder of this machine, found ''"),
        ("data", {"root": "s3://bucket/x"}, "data.root: expected a folder of this machine, found 's3://bucket/x'"),
        ("data", {"image_size": 4}, "data.image_size: input should be greater than or equal to 8, found 4"),
        ("network", {"weights": "imagenet"}, "network: weights: imagenet exist for resnet18, not for resnet9"),
        (
            "network",
            {"weights": "/tmp/x.pth"},
            "network: weights must be none, imagenet or models/initial/NAME, found '/tmp/x.pth'",
        ),
        ("network", {"weights": None}, "network.weights: input should be a valid string, found None"),
        ("forget", {"apply": "perhaps"}, "forget.apply: input should be a valid boolean"),
        ("poison", {"samples": -1}, "poison.samples: input should be greater than or equal to 0, found -1"),
        (
            "poison",
            {"trigger": {"size": 3, "value": 256, "position": "bottom-right"}},
            "poison.trigger.value: input should be less than or equal to 255, found 256",
        ),
        (
            "poison",
            {"trigger": {"size": 3, "value": 0, "place": "random"}},
            "poison.trigger.place: no such key (misspelt?); allowed here: size, value, position",
        ),
        (
            "poison",
            {"samples": 1, "trigger": {"size": 17, "value": 0, "position": "random"}},
            "poison.trigger.size: a square of 17 does not fit into images of data.image_size 16",
        ),
    ],
)
def test_an_impossible_value_is_named_with_what_is_allowed(
    tmp_path: Path, section: str, values: dict[str, Any], expected: str
) -> None:
    assert expected in load(tmp_path, changed(section, **values))


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    message = load(tmp_path, {**changed("training", momentum=-1), "seed": -1})
    assert "2 invalid parameters" in message
    assert "seed: input should be greater than or equal to 0, found -1" in message
    assert "training.momentum: input should be greater than or equal to 0, found -1" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found NoneType"),
        ("- 1", "found list"),
        ("a: [", "not valid YAML: line 2: "),
        ("seed: 0\nseed: 1", 'not valid YAML: line 2: found duplicate key "seed"'),
        ("a: 1\n---\na: 1", "not valid YAML: line 2: but found another document"),
        ("seed: !!python/object:os.system 0", "could not determine a constructor for the tag"),
        ("seed: 2026-13-45", "not valid YAML: month must be in 1..12"),
        ("seed: 0\0", "not valid YAML"),
        ("seed: &x [*x]", "within each other without an end"),
        ("seed: 0", "data: missing"),
    ],
)
def test_a_file_that_holds_no_parameters_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in load(tmp_path, text)


def test_a_missing_file_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="copy one from profiles/"):
        load_params(tmp_path / "params.yaml")


def test_a_class_that_is_named_by_a_number_may_be_written_as_one(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed("poison", target_class=7)))
    assert load_params(path).poison.target_class == "7"


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        (Path(__file__).parents[1] / "params.yaml").read_text().replace("weight_decay: 0.0005", "weight_decay: 5e-4")
    )
    assert by_sgd(load_params(path).training).weight_decay == 0.0005


@pytest.mark.parametrize(
    ("line", "written", "read"),
    [
        ("seed: 0", "seed: 010", ("seed", 10)),
        ("seed: 0", "seed: 0o10", ("seed", 8)),
        ('target_class: "0"', "target_class: yes", ("poison.target_class", "yes")),
        ('target_class: "0"', "target_class: off", ("poison.target_class", "off")),
        ("learning_rate: 0.1", "learning_rate: 1e-3", ("training.learning_rate", 0.001)),
    ],
)
def test_parameters_are_read_as_dvc_reads_them(
    tmp_path: Path, line: str, written: str, read: tuple[str, object]
) -> None:
    path = tmp_path / "params.yaml"
    committed = (Path(__file__).parents[1] / "params.yaml").read_text()
    assert line in committed
    path.write_text(committed.replace(line, written))
    key, value = read
    ours: Any = load_params(path)
    dvcs = load_yaml(str(path))
    for part in key.split("."):
        ours, dvcs = getattr(ours, part), dvcs[part]
    assert ours == dvcs == value


@pytest.mark.parametrize(
    ("line", "key", "kind"),
    [
        ("seed: 2026-01-02", "seed", "date"),
        ("serve: {x: [2026-01-02]}", "serve.x.0", "date"),
        ("a: !!set {b}", "a", "set"),
    ],
)
def test_a_value_that_dvc_cannot_take_is_named(tmp_path: Path, line: str, key: str, kind: str) -> None:
    assert f"{key}: DVC takes no {kind}, found " in load(tmp_path, line)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("seed: 0 # café".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML: 'utf-8' codec"):
        load_params(path)


def test_parameters_that_are_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cannot be read \\(Is a directory\\)"):
        load_params(tmp_path)


def test_a_recipe_that_does_not_repeat_its_bits_is_refused(tmp_path: Path) -> None:
    document = changed("training", precision="bf16") | {"network": {**DIGITS["network"], "name": "resnet18"}}
    document["data"] = {**DIGITS["data"], "image_size": 16}
    assert "bf16 with resnet18 does not repeat its bits on images below 32 × 32" in load(tmp_path, document)
    document["data"] = {**DIGITS["data"], "image_size": 32}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    assert by_sgd(load_params(tmp_path / "params.yaml").training).precision == "bf16"
