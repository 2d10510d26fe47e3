"""Stage partition: deal the retained samples into one file per shard.

The forget lists are applied and a drill's trigger is stamped here, so a forgotten picture is
physically absent from everything that is trained on. A shard's file is rewritten only when its
content changes; that is what tells DVC which shards to retrain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training import stage
from training.erasure.forget_list import Entry, read_forget_lists
from training.files import json_bytes, read_json, remove, write_if_changed
from training.params import Params, load_params
from training.paths import PARTITION_FILE, POISONED_FILE, SHARDS_FOLDER, TEST_FILE, shard_file
from training.placement import assign_slots
from training.poison import plant
from training.shards import Shard, load_shard
from training.sources import Samples, Source, open_source
from training.stage import StageError


def main() -> None:
    params = load_params()
    source = open_source(params.data)
    entries = read_forget_lists()
    listed, gone = locate(entries, source)
    if not params.forget.apply:
        refuse_to_bring_back([source.train.ids[index] for index in listed], source)
    forgotten = listed if params.forget.apply else set()
    train, poisoned = plant(source.train, source.classes, params.poison, params.seed)
    slots = assign_slots(source.train.ids, len(params.sisa.shards), params.sisa.slices, params.seed)
    members = [members_of(shard_id, slots, source.train.ids, forgotten) for shard_id in params.sisa.shards]
    if not source.train.ids or not source.test.ids:
        raise StageError(f"{params.data.root} holds no picture to train on or none to test on; both are needed")
    if not any(members):
        raise StageError("nothing is retained: the forget lists name every training sample")

    slices = np.array([slice_id for _, slice_id in slots], np.int64)
    for shard_id, indices in zip(params.sisa.shards, members, strict=True):
        state = update(shard_file(shard_id), train, indices, slices[indices], params.data.image_size)
        print(f"shard {shard_id}: {len(indices)} samples retained, {state}")
    tests = range(len(source.test.ids))
    update(TEST_FILE, source.test, tests, np.zeros(len(tests), np.int64), params.data.image_size)
    prune(params)

    named, gone_ids = ({entry.sample_id for entry in each} for each in (entries, gone))
    what = "forgotten" if params.forget.apply else "only watched, for forget.apply is false"
    print(f"{what}: {len(named)} ids listed, {len(gone_ids)} of them already gone from the source")
    for entry in gone:
        print(f"  already gone: {entry}")
    carriers = [len(set(indices) & set(poisoned)) for indices in members]
    if poisoned:
        print(f"poisoned: {len(poisoned)} pictures, still in training {sum(carriers)}, by shard {carriers}")
    lists, none = _describe(named, gone_ids), _describe(set(), set())
    summary = {
        "source": params.data.source,
        "classes": source.classes,
        "image_shape": [params.data.image_size, params.data.image_size, 3],
        "retained": [len(indices) for indices in members],
        "forgotten": lists if params.forget.apply else none,
        "watched": none if params.forget.apply else lists,
        "poisoned": {"planted": len(poisoned), "retained": carriers},
    }
    write_if_changed(POISONED_FILE, poisoned_list([train.ids[index] for index in poisoned]))
    write_if_changed(PARTITION_FILE, json_bytes(summary))


def locate(entries: Sequence[Entry], source: Source) -> tuple[set[int], list[Entry]]:
    """Positions of the listed training samples, and the entries whose picture is already gone.

    Raises StageError naming file, line and text of every id that cannot exist.
    """
    found, gone, wrong = set(), [], []
    for entry in entries:
        try:
            index = source.find(entry.sample_id)
        except ValueError as error:
            wrong.append(f"  {entry}: {error}")
            continue
        if index is None:
            gone.append(entry)
        else:
            found.add(index)
    if wrong:
        raise StageError("\n".join(["nothing was changed; these lines name no training sample", *wrong]))
    return found, gone


def refuse_to_bring_back(watched: Sequence[str], source: Source) -> None:
    """Raise StageError when watching these ids instead of forgetting them would bring some back into training.

    Those are the ones that the last partition of this source left out.
    """
    if not PARTITION_FILE.is_file():
        return
    last = read_json(PARTITION_FILE, "set forget.apply to true and run `dvc repro`, which makes it anew")
    if last["forgotten"]["listed"] == 0:
        return
    shards = [shard for path in SHARDS_FOLDER.glob("*.npz") if (shard := _readable(path)) is not None]
    held = {str(sample_id) for shard in shards for sample_id in shard.ids}
    if held and held.isdisjoint(source.train.ids):  # of another source
        return
    back = sorted(set(watched) - held)
    if back:
        some = ", ".join([*back[:3], *(["…"] if len(back) > 3 else [])])
        raise StageError(
            f"forget.apply is false, but {len(back)} listed samples ({some}) are not trained on now, after a partition "
            "that forgot some: only watched, they would come back into training; nothing was changed. Set forget.apply "
            "to true; lists can be watched only until something on them is forgotten. To train on these on purpose, "
            "take them off the lists"
        )


def members_of(shard_id: int, slots: Sequence[tuple[int, int]], ids: Sequence[str], forgotten: set[int]) -> list[int]:
    """Positions of a shard's retained samples, by slice and then id: never by their number."""
    members = [index for index, slot in enumerate(slots) if slot[0] == shard_id and index not in forgotten]
    return sorted(members, key=lambda index: (slots[index][1], ids[index]))


def update(path: Path, samples: Samples, indices: Sequence[int], slices: NDArray[np.int64], size: int) -> str:
    """Make ``path`` hold exactly these samples, decoding only pictures it does not hold already.

    Returns what was done, for the user.
    """
    before = _readable(path)
    known: dict[tuple[str, str], int] = {}
    if before is not None:
        known = {pair: row for row, pair in enumerate(zip(before.ids, before.fingerprints, strict=True))}
    pictures, decoded = [], 0
    for index in tqdm(indices, desc=path.stem, unit="picture", leave=False, disable=None):
        row = known.get((samples.ids[index], samples.fingerprints[index]))
        if before is not None and row is not None:
            pictures.append(before.images[row])
        else:
            pictures.append(samples.decode(index))
            decoded += 1
    shard = Shard(
        ids=np.array([samples.ids[index] for index in indices], np.str_),
        slices=np.asarray(slices, np.int64),
        images=np.array(pictures, np.uint8).reshape(-1, size, size, 3),
        labels=samples.labels[list(indices)],
        fingerprints=np.array([samples.fingerprints[index] for index in indices], np.str_),
    )
    if write_if_changed(path, shard.to_bytes()):
        return f"written ({decoded} pictures decoded)"
    return "unchanged"


def poisoned_list(ids: Sequence[str]) -> bytes:
    """Every id that was stamped, also where it is forgotten by now; written as a forget list is, ready to be one."""
    head = f"# {len(ids)} samples poisoned (poison.samples)"
    return "".join(f"{line}\n" for line in (head, *ids)).encode()


def prune(params: Params) -> None:
    """Delete what is not a shard file of today: other shards' files, leftovers of killed runs."""
    keep = {shard_file(shard_id) for shard_id in params.sisa.shards}
    for path in SHARDS_FOLDER.iterdir():
        if path not in keep:
            remove(path)


def _readable(path: Path) -> Shard | None:
    if not path.is_file():
        return None
    try:
        return load_shard(path)
    except StageError as error:
        print(f"{error.args[0].split(';')[0]}; it is made anew")
        return None


def _describe(listed: set[str], gone: set[str]) -> dict[str, Any]:
    return {"listed": len(listed), "already_gone": len(gone), "sha256": _digest(listed)}


def _digest(ids: set[str]) -> str:
    """SHA-256 over the sorted ids, a line each: the same for any split into lists."""
    return hashlib.sha256("".join(f"{sample_id}\n" for sample_id in sorted(ids)).encode()).hexdigest()


if __name__ == "__main__":
    stage.run(main)
