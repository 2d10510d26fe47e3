"""DVC's experiments: whether a folder is one, and the project that it is of."""

from __future__ import annotations

import os
from pathlib import Path

COPIES = (".dvc", "tmp", "exps")  # below it DVC keeps its temporary copies of a workspace


def project_of(root: Path) -> Path:
    """``root``, but for one of DVC's temporary copies (``--temp``, ``--queue``) the project that it is a copy of."""
    parts = root.parts
    for start in range(len(parts)):
        if parts[start : start + 3] == COPIES:
            return Path(*parts[:start])
    return root


def in_experiment(root: Path) -> bool:
    """Whether ``dvc exp run`` is running here, or ``root`` is one of its copies."""
    return "DVC_EXP_NAME" in os.environ or project_of(root) != root
