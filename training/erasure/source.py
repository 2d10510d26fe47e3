"""Whether the shard files hold what the source holds, and nothing that it does not."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

import numpy as np
from tqdm import tqdm

from training.data.poison import plant
from training.data.prints import Prints
from training.data.reading import last_reading, remembered
from training.data.source import Samples, Source, open_source
from training.data.store import Shard
from training.erasure.bundle import Bundle
from training.errors import SourceError, UncheckedError, VerifyError
from training.params import Params
from training.workspace import Workspace


def source_as_read(workspace: Workspace, params: Params) -> Source:
    """The source; of files that are as the last partition read them, its digests are taken. Raises SourceError."""
    digests = remembered(workspace, params, last_reading(workspace))
    return open_source(params.data, workspace.source_folder(params), workspace.subjects_file(params), digests)


def check_source(bundle: Bundle, decoded: Collection[int]) -> str:
    """Every retained sample is in the source, with the file whose digest is in the shard file.

    ``decoded``: shards of which each picture is decoded again as well, and compared with the image that is trained on.
    """
    workspace, params = bundle.workspace, bundle.params
    try:
        source = open_source(params.data, workspace.source_folder(params), workspace.subjects_file(params))
    except SourceError as error:
        raise UncheckedError(
            f"shard files were not compared with the source, which cannot be read ({error})"
        ) from error
    samples, _ = plant(source.train, source.classes, params.poison, params.seed)
    if source.classes != bundle.manifest.classes:
        raise VerifyError(f"the source has the classes {source.classes}, published are {bundle.manifest.classes}")
    positions = {sample_id: index for index, sample_id in enumerate(samples.ids)}
    retained = again = 0
    for shard_id in params.sisa.shards:
        shard = bundle.shard(shard_id)
        compare_files(shard, samples, positions)
        retained += len(shard)
        if shard_id in decoded:
            compare_pictures(shard, samples, positions)
            again += len(shard)
    said = f"; {again} of them were decoded again" if again else ""
    return f"{retained} retained samples have the label and the file that the source has{said}"


def compare_files(shard: Shard, samples: Samples, positions: dict[str, int]) -> None:
    """By id, label and digest of the file."""
    contents = shard.prints["content"]
    for index, (sample_id, label) in enumerate(zip(shard.ids, shard.labels.tolist(), strict=True)):
        position = positions.get(sample_id)
        if position is None:
            raise VerifyError(f"{shard.path} holds {sample_id!r}, which is not in the source (any more); `dvc repro`")
        if samples.contents[position] != contents[index].tobytes() or samples.labels[position] != label:
            raise VerifyError(
                f"{shard.path} holds {sample_id!r} with another file or label than the source; `dvc repro`"
            )


def compare_pictures(shard: Shard, samples: Samples, positions: dict[str, int]) -> None:
    """By what the pictures decode to."""
    prints = shard.prints
    with closing(tqdm(shard.ids, desc=f"{shard.path.stem}: decode", unit="img", leave=False, disable=None)) as bar:
        for index, sample_id in enumerate(bar):
            image, taken = samples.decode(positions[sample_id])
            held = Prints(*(prints[name][index].tobytes() for name in Prints._fields))
            if taken != held or not np.array_equal(image, shard.images[index]):
                raise VerifyError(f"{shard.path} holds another picture as {sample_id!r} than the source does")
