"""What numbers were made with and on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version


def environment(*packages: str) -> dict[str, str]:
    """Versions of Python and of these packages, and the machine."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
