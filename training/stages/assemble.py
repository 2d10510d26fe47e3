"""Stage assemble: the release candidate of today's models, and its publication."""

from __future__ import annotations

from training.publish.publish import publish
from training.publish.release import assemble
from training.stages.run import run
from training.workspace import Workspace


def assemble_and_publish(workspace: Workspace) -> None:
    """Raises what ``assemble`` and ``publish`` raise; what was published stays then."""
    assemble(workspace)
    manifest = publish(workspace)
    if manifest is not None:
        print(f"{workspace.short(workspace.manifest_file)}: generation {manifest.generation}")


if __name__ == "__main__":
    run(assemble_and_publish)
