"""What DVC ignores (.dvcignore): it would not notice a deletion there, so nothing that is asked for may lie there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.errors import SourceError

# A path from the project's folder on, without a wildcard. Any other pattern is DVC's to understand.
PLAIN = re.compile(r"(/\.?[\w-][\w.-]*)+")


def refuse_ignored(root: Path, folder: Path, names: Iterable[str]) -> None:
    """Raise SourceError when DVC ignores any of ``names``, files below ``folder`` that are there or may come."""
    names = list(dict.fromkeys(names))
    found = ignored(root, folder, names)
    if found:
        some = ", ".join([*(str(folder / name) for name in found[:3]), *(["…"] if len(found) > 3 else [])])
        raise SourceError(
            f"DVC ignores {len(found)} of {len(names)} in {folder} ({some}), so a deletion there would go "
            "unnoticed; take the lines that name them out of .dvcignore, or put the folder elsewhere"
        )


def ignored(root: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Those of ``names``, files below ``folder``, that DVC ignores in the project at ``root``, in their order.

    DVC itself decides, but for patterns that are plain paths, since importing it takes as long as all
    the rest of a check. Outside of ``root`` it ignores nothing.
    """
    root, folder = Path(os.path.normpath(root)), Path(os.path.normpath(folder))
    if not folder.is_relative_to(root) or not names:
        return []
    try:
        plain = plain_patterns(root, folder)
        if plain is None:
            return ignored_by_dvc(root, folder, names)
    except (OSError, ValueError) as error:  # a ValueError: not UTF-8, or a pattern that is none
        raise SourceError(f"a .dvcignore of {root} cannot be read ({error}); correct it") from error
    if any(folder.is_relative_to(path) for path in plain):
        return list(names)
    inside = [path.relative_to(folder).as_posix() for path in plain if path.is_relative_to(folder)]
    if not inside:
        return []
    return [name for name in names if any(name == path or name.startswith(f"{path}/") for path in inside)]


def plain_patterns(root: Path, folder: Path) -> list[Path] | None:
    """What the project's .dvcignore names; None when it takes DVC to tell what is ignored at ``folder``."""
    between = [folder, *folder.parents][: len(folder.relative_to(root).parts)]
    if any(path.name.startswith(".") or (path / ".dvc").exists() or (path / ".dvcignore").exists() for path in between):
        return None
    try:
        lines = [line.strip() for line in (root / ".dvcignore").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [root / line[1:] for line in patterns] if all(map(PLAIN.fullmatch, patterns)) else None


def ignored_by_dvc(root: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """What ``ignored`` says, asked of DVC by the walk that it collects a dependency's files with."""
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter

    decides = DvcIgnoreFilter(localfs, str(root))
    if decides.is_ignored_dir(str(folder)):
        return list(names)
    seen = {
        f"{base}/{name}".removeprefix(f"{folder}/")
        for base, _, files in decides.walk(localfs, str(folder))
        for name in files
    }
    return [name for name in names if name not in seen and decides.is_ignored_file(str(folder / name))]
