"""The command `sisa`: thin, quick to help, at home anywhere in a project."""

import json
import sys
from collections.abc import Callable

import pytest
import yaml
from conftest import Project

from training.commands.drill import typed

Create = Callable[..., Project]

SLOW = {"torch", "torchvision", "sklearn", "scipy", "numpy", "onnx", "onnxruntime", "dvc"}
LOADED = """
import sys
sys.argv = ["sisa", {words}]
from training.commands.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules))
"""


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["plan", "--help"], ["status", "--help"], ["forget", "run", "--help"]),
        *(["drill", "--help"], ["drill", "backdoor", "--help"]),
    ],
)
def test_help_waits_for_no_library_that_is_slow_to_load(words: list[str], create: Create) -> None:
    code = LOADED.format(words=", ".join(map(repr, words)))
    out = create("project").run(sys.executable, "-c", code).stdout
    assert "Usage: sisa" in out
    loaded = set(out.splitlines()[-1].split())
    assert "typer" in loaded
    assert not loaded & SLOW


def test_a_drill_is_what_was_asked_for_also_from_a_folder_of_the_project(create: Create) -> None:
    project = create("project")
    (project.folder / "dvc.yaml").write_text("stages: none\n")  # so the drill ends with its first run
    options = ["--no-relabel", "--samples", "50", "--found", "0.8", "--value", "0", "--position", "random"]
    names = ["--size", "3", "--seed", "5", "--name", "black"]
    (project.folder / "docs").mkdir()
    done = Project(project.folder / "docs").run("sisa", "drill", "backdoor", *options, *names, check=False)
    assert done.returncode == 1
    assert "error: `dvc repro evaluate membership backdoor` failed in" in done.stderr
    assert "Traceback" not in done.stderr
    assert "black: step 1 of 2, before: train with the samples, which are only monitored" in done.stdout

    workspace = project.folder / ".drills/black/unlearned"
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    assert params["seed"] == 5
    assert params["data"]["root"] == str(project.folder.resolve() / "data/raw")
    assert params["forget"] == {"apply": False}
    assert params["poison"] == {
        "samples": 50,
        "target_class": "0",
        "relabel": False,
        "trigger": {"size": 3, "value": 0, "position": "random"},
    }
    assert len((workspace / "forget/drill.txt").read_text().splitlines()) == 40


def test_a_command_is_remembered_as_it_resumes_and_repeats_a_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/sisa", "drill", "forget", "--samples", "3", "--fresh"])
    assert typed() == "sisa drill forget --samples 3"


def test_outside_of_a_project_every_command_says_so(create: Create) -> None:
    project = create("project")
    (project.folder / "params.yaml").unlink()
    for words in (["publish"], ["summary"], ["drill", "backdoor"]):
        done = project.run("sisa", *words, check=False)
        assert done.returncode == 1
        assert "is not in a workspace: neither it nor a folder above it holds dvc.yaml and params.yaml" in done.stderr


def test_publishing_without_a_release_candidate_is_not_an_error(create: Create) -> None:
    project = create("project")
    assert "there is no release candidate, so nothing to publish" in project.run("sisa", "publish").stdout
    assert not (project.folder / "models/ensemble.json").exists()


def test_publish_brings_back_what_the_release_candidate_holds(trained: Project) -> None:
    published = trained.contents("models")
    lost = {path for path in published if path == "models/ensemble.json" or path.startswith("models/onnx/")}
    assert len(lost) == 1 + 3
    for path in lost:
        (trained.folder / path).unlink()
    assert trained.run("sisa", "publish").stdout == "models/ensemble.json: generation 1\n"
    assert trained.contents("models") == published


def test_the_summary_names_the_generation_and_the_report(trained: Project) -> None:
    trained.stages("evaluate")
    out = trained.run("sisa", "summary").stdout
    assert "Generation 1" in out
    assert "report.html" in out


def test_checking_and_publishing_answer_in_json(trained: Project) -> None:
    assert json.loads(trained.run("sisa", "check", "--json").stdout) == {"problems": []}
    assert json.loads(trained.run("sisa", "publish", "--json").stdout) == {"generation": 1}
    (trained.folder / "forget/.hidden.txt").touch()
    done = trained.run("sisa", "check", "--json", check=False)
    (problem,) = json.loads(done.stdout)["problems"]
    assert done.returncode == 1
    assert ".hidden.txt would not be read" in problem
