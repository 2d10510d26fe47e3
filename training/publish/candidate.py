"""Reading the release candidate, for evaluation and publishing."""

from __future__ import annotations

from serving.ensemble.manifest import EnsembleUnavailable, Release, parse_release
from training.errors import DamagedError
from training.workspace import Workspace


def read_release(workspace: Workspace) -> Release:
    """Raises DamagedError when the candidate is missing, damaged, or has no model."""
    path = workspace.release_file
    try:
        return parse_release(path.read_bytes(), path)
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing") from None
    except (OSError, EnsembleUnavailable) as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
