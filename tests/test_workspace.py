"""A workspace knows its paths and locks, wherever the process stands."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from training.workspace import Workspace


def test_paths_do_not_depend_on_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("here"))
    monkeypatch.chdir("/")
    assert workspace.manifest_file == tmp_path / "here/models/ensemble.json"
    assert workspace.short(workspace.shard_file(3)) == "data/shards/shard-3.npy"
    assert workspace.short(Path("/etc/passwd")) == "/etc/passwd"


@pytest.mark.parametrize(
    ("folder", "is_experiment"), [(".dvc/tmp/exps/tmpabc", True), ("tmp/exps/x", False), (".drills/a/unlearned", False)]
)
def test_a_temporary_copy_of_dvc_is_an_experiment(tmp_path: Path, folder: str, is_experiment: bool) -> None:
    assert Workspace(tmp_path / folder).is_experiment == is_experiment


def test_a_lock_is_held_for_one_process_and_let_go_when_it_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from training.workspace import Workspace
with Workspace(Path({str(tmp_path)!r})).shard_lock(3):
    print("held", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)
"""
    command, workspace = [sys.executable, "-c", program], Workspace(tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with workspace.shard_lock(4):
            pass  # another shard is free
        assert caplog.text == ""

        class KillsTheHolder(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                assert holder.stdin is not None
                holder.stdin.write("\n")
                holder.stdin.flush()

        handler = KillsTheHolder()
        logging.getLogger("training").addHandler(handler)
        try:
            with workspace.shard_lock(3):
                assert holder.wait() == -9
        finally:
            logging.getLogger("training").removeHandler(handler)
        assert f"shard 3: waiting for process {holder.pid}, which is working on it" in caplog.text
