"""Starts a script at a moment that could not be hit otherwise: when a process is about to open or move a file.

Python tells of each by an audit event, in whatever process it is; the process waits while the script runs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conftest import ENVIRONMENT, Project

HOOK = """
import os, subprocess, sys

names = ("PROCESS", "PLACE", "ONCE", "FLAG", "SCRIPT")
process, place, once, flag, script = (os.environ.get("MOMENT_" + name, "") for name in names)

def look(event, arguments):
    if not event.startswith(("open", "os.", "shutil.")) or not any(place in str(each) for each in arguments[:2]):
        return
    if os.path.exists(once) and not os.path.exists(flag):
        with open(flag, "w") as file:
            file.write(event)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MOMENT_")}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)

if process and process in " ".join(sys.orig_argv):
    sys.addaudithook(look)
"""


@dataclass(frozen=True)
class Moment:
    """When a ``process``, by a part of its command line, is about to open, list or move a ``place``, a part of a path.

    ``once``: a file of the project that must be there for it to count.
    """

    process: str
    place: str
    once: str = "params.yaml"


def run_with(
    project: Project, folder: Path, moment: Moment, script: str, command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run a command in the project; ``script``, Python, runs there at the moment, once.

    ``folder``: a new one, for what that takes.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK)
    flag = folder / "done"
    environment = {
        **ENVIRONMENT,
        "PYTHONPATH": str(folder),
        "MOMENT_PROCESS": moment.process,
        "MOMENT_PLACE": moment.place,
        "MOMENT_ONCE": str(project.folder / moment.once),
        "MOMENT_FLAG": str(flag),
        "MOMENT_SCRIPT": f"import os; os.chdir({str(project.folder)!r})\n{script}",
    }
    done = subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert flag.exists(), f"the moment never came\n{done.stdout}\n{done.stderr}"
    return done
