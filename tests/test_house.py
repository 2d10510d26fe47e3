"""The rooms and the doors between them."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for room in ("training", "serving")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
    return names


def runs(module: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """A module of the project and all of the project that it imports, directly or not."""
    seen |= {module}
    for name in sorted(imports(MODULES[module]) & MODULES.keys()):
        if name not in seen:
            seen = runs(name, seen)
    return seen


def within(names: set[str], package: str) -> set[str]:
    return {name for name in names if name == package or name.startswith(f"{package}.")}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("serving")])
def test_serving_imports_neither_torch_nor_training(module: str) -> None:
    for package in ("torch", "torchvision", "training"):
        assert not within(imports(MODULES[module]), package)


def test_serving_asks_for_every_package_that_it_imports() -> None:
    """What comes with another package only would be gone, or another version, with that one's next release."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    lines = (line for group in ("serving", "cpu", "gpu") for line in groups[group])
    asked = {re.split(r"[\[<>=~;]", line)[0].strip().replace("-", "_") for line in lines}
    names = {name for module, path in MODULES.items() if module.startswith("serving") for name in imports(path)}
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"serving"}
    packages = {name: {each.replace("-", "_") for each in packages_distributions()[name]} for name in foreign}
    assert {name: found for name, found in packages.items() if not found & asked} == {}


SHARED = ("serving.ensemble", "serving.pictures")  # what training and serving must do alike


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training")])
def test_training_takes_from_serving_only_what_both_must_do_alike(module: str) -> None:
    taken = within(imports(MODULES[module]), "serving")
    assert not [name for name in taken if not name.startswith(SHARED)]


TORCH = (
    "training.recipe",
    "training.backbone.make",
    "training.backbone.efficientnet_lite0",
    "training.engine.descent",
    "training.publish.export",
    "training.chain.initial_weights",
)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training")])
def test_torch_is_imported_where_it_is_needed_and_nowhere_else(module: str) -> None:
    if not module.startswith(TORCH):
        assert not within(imports(MODULES[module]), "torch")


# The recipe decides weights, and its folder is what keys digest: nothing outside may decide anything for it.
RECIPE_IMPORTS = {
    "training.errors",
    "training.learning",
    "numpy",
    "pydantic",
    "safetensors",
    "scipy",
    "threadpoolctl",
    "torch",
    "torchvision",
}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.recipe.")])
def test_the_recipe_imports_itself_and_a_short_list(module: str) -> None:
    for name in imports(MODULES[module]):
        known = name.split(".")[0] in RECIPE_IMPORTS | sys.stdlib_module_names
        assert known or name.startswith("training.recipe.") or name in RECIPE_IMPORTS, name


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.recipe.common.")])
def test_what_recipes_share_knows_none_of_them(module: str) -> None:
    assert all(
        name.startswith("training.recipe.common") for name in within(imports(MODULES[module]), "training.recipe")
    )


# From what is trained on to what is shown: a room imports its own and those before it.
ORDER = (
    *("recipe", "memory", "data", "chain", "publish", "engine", "evaluation", "forgetting"),
    *("report", "erasure", "drills", "stages", "commands"),
)


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.") and room(name) in ORDER])
def test_rooms_look_in_one_direction(module: str) -> None:
    before = ORDER[: ORDER.index(room(module)) + 1]
    for name in within(imports(MODULES[module]), "training") & MODULES.keys():
        if room(name) in ORDER and not (room(module) == "drills" and name == "training.stages.run"):
            assert room(name) in before, f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.")])
def test_only_the_door_reads_the_current_directory(module: str) -> None:
    if module != "training.stages.run":
        text = MODULES[module].read_text()
        assert "cwd()" not in text
        assert "getcwd" not in text
        assert 'Path(".")' not in text
        assert "Path()" not in text


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.")])
def test_only_stages_and_the_command_print(module: str) -> None:
    if not module.startswith(
        ("training.stages.", "training.commands.", "training.report.summary", "training.drills.show")
    ):
        calls = [node for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_enough_to_be_read(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 250


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training.evaluation.")])
def test_evaluation_imports_no_torch(module: str) -> None:
    assert not within(imports(MODULES[module]), "torch")


def test_the_served_modules_load_where_torch_and_training_are_not_to_be_had() -> None:
    modules = [name for name in MODULES if name.startswith("serving")]
    program = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'training'): sys.modules[name] = None\n"
        f"for name in {modules}: __import__(name)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_importing_any_module_prints_nothing_and_writes_nothing(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfor name in {list(MODULES)}: __import__(name)\n"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


# A trainer's code is not among what DVC watches: what shapes weights is in the keys of the plan, and the
# rest (engine, chain, data) cannot change what they name.
IN_THE_KEYS = ("training.recipe", "training.engine", "training.chain", "training.data")


def stage_module(described: dict[str, Any]) -> str:
    module = re.match(r"python -m (\S+)", described["cmd"])
    assert module is not None
    return module[1]


@pytest.mark.parametrize(("stage", "described"), yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items())
def test_a_stage_runs_again_when_code_that_it_runs_changes(stage: str, described: dict[str, Any]) -> None:
    watched = [name for name in described["deps"] if name.startswith(("training", "serving"))]
    used = {name: set[str]() for name in watched}
    for module in runs(stage_module(described)):
        path = MODULES[module].relative_to(ROOT)
        folders = [name for name in watched if path.as_posix() == name or Path(name) in path.parents]
        for name in folders:
            used[name].add(module)
        plumbing = path.parent == Path("training") or module == "training.stages.run"
        exempt = stage == "train" and module.startswith((*IN_THE_KEYS, "training.stages.train", *SHARED))
        assert folders or plumbing or exempt, f"{stage} runs {module}, which is in none of {watched}"
    assert all(used.values()), f"{stage} does not run {[name for name, modules in used.items() if not modules]}"
