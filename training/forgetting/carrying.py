"""`sisa forget export` and `import`: a workspace's memory, carried to another machine, or kept as a backup.

One tar file with the secret, the suppression memory, the members index, the ledger and the private requests. Whoever
has it can find out what was forgotten by trying ids: it is as private as the requests in it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from training.errors import RequestError
from training.files import replacing, write_atomic
from training.memory.secret import read_secret
from training.memory.suppressed import read_batches
from training.workspace import Workspace

SECRET, SUPPRESSED, LEDGER = ".sisa/secret", ".sisa/suppressed.jsonl", ".sisa/ledger.jsonl"
FOLDERS = (".sisa/members", "forget/private")


def export_memory(workspace: Workspace, path: Path) -> int:
    """Write the memory to ``path``, for its owner's eyes alone; how many files it holds.

    Raises RequestError when there is nothing to export, or when ``path`` is there already.
    """
    if not path.parent.is_dir():
        raise RequestError(f"{path.parent} is not a folder; is the medium there?")
    if path.exists():
        raise RequestError(f"{path} is there already; choose another name")
    if not workspace.secret_file.is_file():
        raise RequestError(f"{workspace.secret_file} is missing: nothing was ever published here, so nothing to export")
    with workspace.publish_lock(), replacing(path, mode=0o600) as file, tarfile.open(fileobj=file, mode="w") as tar:
        names = [name for name in (SECRET, SUPPRESSED, LEDGER) if (workspace.project_root / name).is_file()]
        for folder in FOLDERS:
            names += sorted(f"{folder}/{entry.name}" for entry in (workspace.project_root / folder).glob("[!.]*"))
        for name in names:
            tar.add(workspace.project_root / name, name, recursive=False)
    return len(names)


def import_memory(workspace: Workspace, path: Path) -> int:
    """Bring in what ``export_memory`` wrote elsewhere; how many files were new here.

    What is here is extended, never shortened: one suppression memory must continue the other, and a request of the
    same name must be the same. Raises RequestError when they do not belong together; nothing was changed then.
    """
    files = read_export(path)
    with workspace.publish_lock():
        refuse_another_memory(workspace, files, path)
        fresh = 0
        for name, content in files.items():
            target = workspace.project_root / name
            here = target.read_bytes() if target.is_file() else None
            if here == content or (name in (SUPPRESSED, LEDGER) and here is not None and here.startswith(content)):
                continue
            write_atomic(target, content, mode=0o644 if name == LEDGER else 0o600)
            fresh += 1
    return fresh


def read_export(path: Path) -> dict[str, bytes]:
    """The files of an export. Raises RequestError when it is not one, or holds anything else."""
    files = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                inside = PurePosixPath(member.name)
                allowed = member.name in (SECRET, SUPPRESSED, LEDGER) or (
                    str(inside.parent) in FOLDERS and inside.name not in ("", ".", "..")
                )
                content = tar.extractfile(member) if member.isfile() else None
                if not allowed or content is None:
                    raise RequestError(f"{path} is not what `sisa forget export` writes: it holds {member.name}")
                files[member.name] = content.read()
    except (OSError, tarfile.TarError) as error:
        raise RequestError(f"{path} cannot be read as what `sisa forget export` writes ({error})") from error
    if SECRET not in files:
        raise RequestError(f"{path} is not what `sisa forget export` writes: it lacks {SECRET}")
    return files


def refuse_another_memory(workspace: Workspace, files: dict[str, bytes], path: Path) -> None:
    """Raise RequestError unless what is here is the beginning of what is in ``files``, or the other way round."""
    ours = workspace.secret_file.read_bytes() if workspace.secret_file.is_file() else None
    batches = read_batches(workspace.suppressed_file)
    if ours is not None and ours != files[SECRET] and (batches or any(workspace.members_folder.glob("*.npy"))):
        secret = read_secret(workspace.secret_file)
        assert secret is not None
        raise RequestError(
            f"{path} is of another secret than the one here ({secret.name}), under which samples are remembered: two "
            "memories cannot be made one. Nothing was changed. Keep the one that the ledger belongs to, and put the "
            "other .sisa/ aside"
        )
    for name in (SUPPRESSED, LEDGER, *(name for name in files if name.startswith("forget/private/"))):
        target = workspace.project_root / name
        here, there = target.read_bytes() if target.is_file() else b"", files.get(name, b"")
        if name in (SUPPRESSED, LEDGER):
            together = here.startswith(there) or there.startswith(here)
        else:
            together = here in (b"", there)
        if not together:
            raise RequestError(f"{name} here and in {path} do not continue each other; nothing was changed")
