"""Whether anything of a forgotten sample is in what is trained or tested on, whatever it is called now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from training.data.duplicates import How, Match, join, match_files, match_pictures
from training.data.prints import CELLS, look_of
from training.data.store import Shard, load_shard
from training.erasure.bundle import Bundle
from training.errors import UncheckedError, VerifyError
from training.publish.copies import copies_with


def check_forgotten(bundle: Bundle) -> str:
    """No forgotten sample is in a shard file or the test split: by id, file, pixels or look.

    A copy that stays on purpose (``data.duplicates: report``, or it was reinstated) is counted, not refused.
    """
    workspace, memory = bundle.workspace, bundle.memory
    shards = [bundle.shard(shard_id) for shard_id in bundle.params.sisa.shards]
    expected = {shard.path for shard in shards}
    if beside := sorted(path for path in workspace.shards_folder.iterdir() if path not in expected):
        raise VerifyError(f"{beside[0]} lies among the shard files and is none of them; `dvc repro` removes it")
    test = load_shard(bundle.here(workspace.test_file))
    for shard in (*shards, test):
        shard.check()
        if not shard.has_prints:
            raise UncheckedError(f"{shard.path} was written by a version that kept no prints of pictures; `dvc repro`")
    samples, kept = sum(map(len, shards)), 0
    if memory is None or not memory.samples:
        return f"nothing is forgotten; {samples} samples are retained"
    allowed = set() if bundle.params.data.duplicates == "forget" else copies_with(bundle.workspace, "kept")
    for shard in shards:
        for match in matches_in(bundle, shard, by_id=True):
            sample_id = shard.ids[match.index]
            if memory.allows(memory.secret.of_id(sample_id), match.of) or sample_id in allowed:
                kept += 1
            elif match.how is How.LOOK and bundle.params.data.duplicates == "report":
                kept += 1  # whether it is the same picture is for a person to say
            else:
                raise VerifyError(f"{shard.path} holds {sample_id!r}, which has {SAME[match.how]} a forgotten sample")
    for match in matches_in(bundle, test, by_id=False):
        if match.exact:
            raise VerifyError(
                f"{test.path} shows {test.ids[match.index]!r}, which has {SAME[match.how]} a forgotten one"
            )
    looked = (
        f"none of {len(memory.samples)} forgotten samples is among {samples} retained and {len(test)} test pictures"
    )
    return (
        f"{looked}; {kept} copies of them, or pictures that look alike, are kept (data/copies.csv)" if kept else looked
    )


SAME = {How.ID: "the id of", How.FILE: "the file of", How.PIXELS: "the pixels of", How.LOOK: "the look of"}


def matches_in(bundle: Bundle, shard: Shard, *, by_id: bool) -> Sequence[Match]:
    """The samples of a shard file that are a forgotten one, or a copy of one. Looks are taken anew from the images
    where those are large enough, since a file's own could be forged."""
    memory = bundle.memory
    assert memory is not None
    prints = shard.prints
    contents = [row.tobytes() for row in prints["content"]]
    found = match_files(memory.secret, memory.samples, shard.ids, contents, by_id=by_id)
    return join(found, match_pictures(memory.secret, memory.samples, range(len(shard)), prints), seen(bundle, shard))


def seen(bundle: Bundle, shard: Shard) -> Iterator[Match]:
    """As ``match_pictures``, by what the images in the file look like."""
    memory = bundle.memory
    assert memory is not None
    if shard.images.shape[1] < CELLS or not any(sample.look for sample in memory.samples.values()):
        return
    looks = np.zeros(len(shard), shard.prints.dtype)
    for index, image in enumerate(shard.images):
        looks["look"][index] = np.frombuffer(look_of(np.asarray(image)), np.uint8)
    yield from match_pictures(memory.secret, memory.samples, range(len(shard)), looks)
