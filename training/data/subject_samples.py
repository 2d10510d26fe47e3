"""The samples of each subject, told without opening the source: for a withdrawal, which comes before that.

What was trained on is in the shard files; a table names its samples itself, folders those that are still there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from training.data.listing import list_pictures
from training.data.placement import subject_of
from training.data.store import load_shard
from training.data.subjects import read_table, subject_of_path
from training.errors import DamagedError, ParamsError, SourceError
from training.workspace import Workspace

logger = logging.getLogger(__name__)


def samples_by_subject(workspace: Workspace) -> dict[str, list[str]]:
    """By subject the ids of all samples that are known to be theirs; what cannot be read is logged and left out."""
    try:
        params = workspace.read_params()
        table = workspace.subjects_file(params)
        if table is not None:
            return grouped(read_table(table)[0])
    except (ParamsError, SourceError) as error:
        logger.warning("%s: whose samples are whose is not known, so no subject can be withdrawn", error)
        return {}
    if params.data.subjects == "none":
        return {}
    ids = set(list_pictures(workspace.source_folder(params)).pictures["train"])
    for path in sorted(workspace.shards_folder.glob("*.npy")):
        try:
            ids.update(load_shard(path).ids)
        except DamagedError as error:
            logger.warning("%s", error)
    return grouped({sample_id: subject_of_path(sample_id) for sample_id in sorted(ids)})


def grouped(subjects: Mapping[str, str]) -> dict[str, list[str]]:
    """By subject the ids, in their order; those without a subject are left out."""
    ids = defaultdict(list)
    for sample_id, subject in subjects.items():
        if subject:
            ids[subject].append(sample_id)
    return dict(ids)


def with_samples(name: str, of: Mapping[str, Sequence[str]]) -> list[str]:
    """An id alone; ``subject:NAME``, and the ids of that subject's samples by ``of``."""
    subject = subject_of(name)
    return [name] if subject is None else [name, *of.get(subject, ())]
