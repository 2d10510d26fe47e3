"""The rooms and the doors between them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("training")])
def test_training_touches_serving_only_through_what_answers_and_only_to_evaluate(module: str) -> None:
    rooms = within(set(MODULES), "serving.ensemble")
    allowed = rooms if module.startswith("training.evaluation.") else set()
    assert within(imports(MODULES[module]), "serving") <= allowed


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


# Not named here: schedule, train and export, of whose code the part that shapes weights is in the keys.
@pytest.mark.parametrize("stage", ["partition", "assemble", "evaluate", "membership", "backdoor", "report"])
def test_a_stage_runs_again_when_code_that_it_runs_changes(stage: str) -> None:
    plumbing = {f"training/{name}.py" for name in ("files", "params", "paths", "stage")}
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    module = re.fullmatch(r"python -m (\S+)", described["cmd"])
    assert module is not None
    needed = {str(MODULES[name].relative_to(ROOT)) for name in runs(module[1])} - plumbing
    assert needed == {name for name in described["deps"] if name.endswith(".py")} - plumbing
