"""`sisa check`: all that would stop a run, named at once, before DVC meets it.

DVC fills parameters into dvc.yaml before any stage can say what is wrong with them, and calls the outcome
"unexpected error". Nothing is written, no picture is opened, and nothing slow is imported where it can be helped.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from training.backbone.check import check_size
from training.data.ignored import refuse_ignored
from training.data.listing import Listing, is_folder, list_pictures, survey
from training.data.placement import placement_key
from training.data.requests import read_asked
from training.data.subjects import read_subjects
from training.document import read_document
from training.errors import CheckError, SisaError
from training.learning import INITIAL_WEIGHTS_FOLDER, AnyNetwork, FrozenNetwork
from training.params import SUBJECTS_FOLDER, Data, check_params
from training.workspace import Workspace

# Files and folders that stages write, none of which may hold the source or lie in it.
WRITTEN = (
    "data/shards",
    "data/features",
    "data/test.npy",
    "data/partition.json",
    "data/poisoned.txt",
    "data/reading.json",
    "models",
    "reports",
    ".sisa",
)

Section = TypeVar("Section", bound=BaseModel)


def check(workspace: Workspace) -> None:
    """Raises CheckError with a line for everything that ``find_problems`` finds."""
    problems = find_problems(workspace)
    if problems:
        raise CheckError("\n".join([f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", *problems]))


def find_problems(workspace: Workspace) -> list[str]:
    """A sentence or more for everything that is wrong with parameters, source, lists, weights, device and memory."""
    path = workspace.root / "params.yaml"
    document: dict[str, Any] = {}
    problems: list[str] = []

    def parameters() -> None:
        document.update(read_document(path))
        check_params(document, path)

    problems += raised(parameters)
    # A parameter that is wrong elsewhere does not keep the rest from being looked at.
    data, network = section(document, "data", Data), network_section(document)
    if data is not None:
        problems += wrong_source(workspace.root, data)
        problems += wrong_subjects(workspace.root, data)
        problems += raised(lambda: placement_key(data.placement_key_digest))
    problems += wrong_lists(workspace) + raised(lambda: check_memory(workspace))
    if network is not None:
        problems += wrong_weights(workspace.root, network, None if data is None else data.image_size)
    if document.get("device") == "cuda" and not has_cuda():
        problems.append("device: cuda, but this machine or this build of torch has no CUDA device; use auto or cpu")
    return problems


def section(document: dict[str, Any], name: str, model: type[Section]) -> Section | None:
    """A section of the parameters by itself; None when it is not valid, which the parameters' own check says."""
    try:
        return model.model_validate(document.get(name))
    except ValidationError:
        return None


def network_section(document: dict[str, Any]) -> AnyNetwork | None:
    """As ``section``, of either kind of network."""
    try:
        return TypeAdapter[AnyNetwork](AnyNetwork).validate_python(document.get("network"))
    except ValidationError:
        return None


def raised(look: Callable[[], object]) -> list[str]:
    """The message of what ``reading`` raises, if it does."""
    try:
        look()
    except SisaError as error:
        return [str(error)]
    return []


def wrong_source(root: Path, data: Data) -> list[str]:
    """What is wrong with the source's folder; what lies in it is looked at only where it is one of pictures."""
    folder = Path(os.path.normpath(root / data.root))
    overlapping = [name for name in WRITTEN if within(folder, root / name)]
    if overlapping:
        return [
            f"data.root: {folder} holds or lies in {', '.join(overlapping)}, which the pipeline writes; move the "
            "source into a folder of its own"
        ]
    if not is_folder(folder):
        home = " (~ is not read as your home folder here)" if data.root.parts[0].startswith("~") else ""
        return [f"data.root: {folder} is not a folder{home}; make it, or give the one that holds the source"]
    if data.source != "imagefolder":
        return survey(folder).problems
    listing = list_pictures(folder)
    return [*listing.problems, *raised(lambda: refuse_ignored(root, folder, files_of(listing)))]


def files_of(listing: Listing) -> list[str]:
    return [f"{split}/{name}" for split, names in listing.pictures.items() for name in names]


def within(one: Path, another: Path) -> bool:
    """Whether one of two paths is the other, or lies in it."""
    return one.is_relative_to(another) or another.is_relative_to(one)


def wrong_subjects(root: Path, data: Data) -> list[str]:
    """What is wrong with the folder of tables that say whom samples are of, and with the one that is named."""
    folder = root / SUBJECTS_FOLDER
    if not is_folder(folder):
        return [f"{folder} is not a folder; make it, also an empty one: DVC looks at it"]
    problems = survey(folder).problems
    if data.subjects in ("none", "folder"):
        return problems
    path = root / data.subjects
    looks = (lambda: read_subjects(path), lambda: refuse_ignored(root, folder, [path.name]))
    return [*problems, *(problem for look in looks for problem in raised(look))]


def wrong_lists(workspace: Workspace) -> list[str]:
    folder = workspace.forget_folder
    names = [
        "requests.txt",
        "private/request.json",
        *(path.name for path in sorted(folder.glob("[!.]*.txt"))),
    ]  # the first may still come
    looks = (lambda: read_asked(workspace), lambda: refuse_ignored(workspace.root, folder, names))
    return [problem for look in looks for problem in raised(look)]


def check_memory(workspace: Workspace) -> None:
    """Raise MemoryLostError where the ledger says that samples were forgotten, and which is no longer known."""
    from training.memory.suppressed import read_memory, same_lines
    from training.publish.history import read_history, remembered_batches

    memory = read_memory(workspace.secret_file, workspace.suppressed_file)
    same_lines(
        () if memory is None else memory.batches, remembered_batches(read_history(workspace)), workspace.suppressed_file
    )


def wrong_weights(root: Path, network: AnyNetwork, image_size: int | None) -> list[str]:
    """What is wrong with the folder of initial weights, and with the file that is named."""
    folder = root / INITIAL_WEIGHTS_FOLDER
    if not is_folder(folder):
        return [f"{folder} is not a folder; make it, also an empty one: DVC looks at it"]
    found = survey(folder)
    problems = found.problems
    if isinstance(network, FrozenNetwork):
        path, advice = root / network.backbone, "network.backbone: {} is not a file; `sisa backbone make` writes one"
    else:
        path = root / network.weights
        advice = "network.weights: {} is not a file that can be read; put a state dict there, or use none or imagenet"
    if path.parent != folder:
        return problems
    if path.name not in found.files:
        problems.append(advice.format(path))
    elif isinstance(network, FrozenNetwork) and image_size is not None:
        problems += raised(lambda: check_size(path, image_size))
    return [*problems, *raised(lambda: refuse_ignored(root, folder, [path.name]))]


def has_cuda() -> bool:
    """Whether torch would find a CUDA device, as far as can be told without importing it, which takes seconds."""
    package = find_spec("torch")
    assert package is not None
    assert package.origin is not None
    build = (Path(package.origin).parent / "version.py").read_text(encoding="utf-8")
    if re.search(r"^hip\b.*=\s*'", build, re.MULTILINE):
        return True  # for ROCm, which answers to the same name: the trainer will say
    return re.search(r"^cuda\b.*=\s*'", build, re.MULTILINE) is not None and cuda_devices() > 0


def cuda_devices() -> int:
    """How many devices the CUDA driver shows to this process, with respect to CUDA_VISIBLE_DEVICES."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if found else 0
