"""Stage assemble: the release candidate of today's models, and its publication.

It runs after every run of partition, also where that changed nothing: somebody has to look whether what was asked
then is still what is asked (``training/data/reading.py``).
"""

from __future__ import annotations

from training.data.reading import EVERYTHING, compare, refuse_changed
from training.publish.publish import publish
from training.publish.release import assemble
from training.publish.withdraw import withdraw
from training.stages.run import run
from training.workspace import Workspace


def assemble_and_publish(workspace: Workspace) -> None:
    """Raises what ``assemble`` and ``publish`` raise, and ChangedError when lists, parameters or source are not what
    partition read: the next ``dvc repro`` then partitions again. What was published stays then."""
    found = compare(workspace)
    if found.changed:
        withdraw(workspace)  # what was asked for meanwhile need not wait for the next run
    refuse_changed(workspace, found)
    if found.compared != EVERYTHING:
        print(found.compared)
    assemble(workspace)
    manifest = publish(workspace)
    if manifest is not None:
        print(f"{workspace.short(workspace.manifest_file)}: generation {manifest.generation}")


if __name__ == "__main__":
    run(assemble_and_publish)
