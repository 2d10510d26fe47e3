from pathlib import Path

import pytest
import yaml

from serving.settings import Settings, SettingsError, load_settings

ROOT = Path(__file__).parents[1]


def write(folder: Path, **section: object) -> Path:
    (folder / "params.yaml").write_text(yaml.safe_dump({"serve": section}))
    return folder


def test_the_committed_params_spell_out_every_setting_and_its_default() -> None:
    section = yaml.safe_load((ROOT / "params.yaml").read_text())["serve"]
    assert section.keys() == Settings.model_fields.keys()
    defaults = Settings().model_dump(mode="json")
    assert section == defaults


def test_params_without_the_section_mean_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    assert load_settings(tmp_path).max_images == Settings().max_images


def test_the_environment_wins_over_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_SERVE_MAX_IMAGES", "7")
    settings = load_settings(write(tmp_path, max_images=5, max_batch=9))
    assert (settings.max_images, settings.max_batch) == (7, 9)


def test_quorum_and_floor_may_be_given_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_SERVE_QUORUM", "0.8")
    monkeypatch.setenv("SISA_SERVE_MIN_GENERATION", "7")
    settings = load_settings(write(tmp_path))
    assert (settings.quorum, settings.min_generation) == (0.8, 7)


def test_relative_folders_are_taken_from_the_bundle_and_absolute_ones_as_they_are(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, models="m", state="/var/lib/sisa"))
    assert (settings.models, settings.state) == (tmp_path / "m", Path("/var/lib/sisa"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"max_image": 5}, r"max_image: no such key \(misspelt\?\); allowed: models, state"),
        ({"workers": 0}, "workers: Input should be greater than or equal to 1, found 0"),
        ({"quorum": 1.5}, "quorum: Input should be less than or equal to 1, found 1.5"),
        ({"min_generation": -1}, "min_generation: Input should be greater than or equal to 0, found -1"),
        ({"provider": "gpu"}, "provider: Input should be 'auto', 'cpu' or 'cuda', found 'gpu'"),
        ({"threads": 0}, "threads: auto or a number from 1, found 0"),
        ({"timeout_seconds": "soon"}, "timeout_seconds: .* found 'soon'"),
    ],
)
def test_an_impossible_setting_is_named(tmp_path: Path, section: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(write(tmp_path, **section))


def test_a_misspelt_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SISA_SERVE_MAX_IMAGE", "7")
    with pytest.raises(SettingsError, match="SISA_SERVE_MAX_IMAGE: no such setting"):
        load_settings(write(tmp_path))


@pytest.mark.parametrize("text", ["serve: 5", "[]", "serve: [", "serve: {}\nserve: {}", "serve: 2026-13-45", None])
def test_params_that_cannot_be_read_stop_the_start(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"params\.yaml"):
        load_settings(tmp_path)


def test_settings_are_read_as_dvc_and_training_read_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("serve:\n  max_images: 010\n  models: on\n")
    settings = load_settings(tmp_path)
    assert settings.max_images == 10
    assert settings.models == tmp_path / "on"


def test_workers_share_cores_and_concurrency() -> None:
    assert Settings(workers=3, max_concurrency=10).worker_concurrency == 4
    assert Settings(threads=4, workers=3).thread_count == 4
    assert Settings(workers=4, max_bytes_at_work=4000, max_body_bytes=1024).worker_bytes == 1024
    assert Settings(workers=2, max_bytes_at_work=4096, max_body_bytes=1024).worker_bytes == 2048
    assert Settings(workers=256).thread_count == 1
