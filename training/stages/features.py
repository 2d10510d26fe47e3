"""Stage features: what the frozen backbone says of every picture, computed once.

A picture that is forgotten takes its row with it; one that stays keeps its row, wherever it is placed. Where the
backbone or the environment is another one, all rows are computed again. For a network that is trained as a whole there
is nothing to do.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.chain.initial_weights import backbone_file
from training.data.features import Features, read_features, write_features
from training.data.store import Shard, load_shard
from training.errors import DamagedError
from training.files import remove, write_if_changed
from training.learning import FrozenNetwork
from training.stages.run import run
from training.workspace import Workspace

if TYPE_CHECKING:
    from training.backbone.extract import Extractor

Rows = NDArray[np.float32]  # (N, D)


def features(workspace: Workspace) -> None:
    """Raises DamagedError when a shard file is missing or damaged, TrainingError or BackboneError when the backbone
    cannot be used."""
    params = workspace.read_params()
    workspace.features_folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(params.network, FrozenNetwork):
        none = workspace.features_folder / "none.txt"  # DVC warns of an empty folder, in each stage that depends on it
        write_if_changed(none, b"The network takes images itself.\n")
        prune(workspace, {none})
        print(f"network {params.network.name} takes images; there are no features to compute")
        return
    from training.backbone.extract import Extractor  # onnxruntime takes a third of a second to import

    extractor = Extractor(backbone_file(workspace.root, params.network), params.data.image_size, params.device)
    shards = {workspace.features_file(shard_id): workspace.shard_file(shard_id) for shard_id in params.sisa.shards}
    shards[workspace.test_features_file] = workspace.test_file
    there = held(workspace, extractor)
    jobs = {path: load_shard(shard) for path, shard in shards.items()}
    known = {picture for found in there.values() for picture in found.pictures}
    missing = sum(picture not in known for shard in jobs.values() for picture in shard.digests)
    with progress(missing) as bar:
        for path, shard in jobs.items():
            bring_up_to_date(path, shard, there, extractor, bar.update)
    prune(workspace, shards)
    print(f"features: {sum(map(len, jobs.values()))} pictures, {missing} of them computed now")


def held(workspace: Workspace, extractor: Extractor) -> dict[Path, Features]:
    """The files that are there and were made by this backbone in this environment; says so where they were not."""
    found: dict[Path, Features] = {}
    for path in sorted(workspace.features_folder.rglob("*.safetensors")):
        try:
            one = read_features(path)
        except DamagedError as error:
            print(f"{error}: computed again", file=sys.stderr)
            continue
        if one.maker == extractor.maker:
            found[path] = one
        else:
            print(f"{workspace.short(path)} was made by {one.maker}, here it is {extractor.maker}: computed again")
    return found


def bring_up_to_date(
    path: Path, shard: Shard, there: dict[Path, Features], extractor: Extractor, on_batch: Callable[[int], object]
) -> None:
    """Make ``path`` hold the rows of this shard's pictures in its order, and nothing else."""
    pictures = shard.digests
    if path in there and there[path].pictures == pictures:
        return
    rows = np.empty((len(pictures), extractor.backbone.width), np.float32)
    missing = take_over(rows, pictures, there, path)
    if missing:
        rows[missing] = extractor.features(shard.checked_images()[missing], on_batch)
    write_features(path, extractor.maker, pictures, rows)


def take_over(rows: Rows, pictures: Sequence[bytes], there: dict[Path, Features], own: Path) -> list[int]:
    """Fill in the rows that are known already; the positions of the others. ``own``: where most of them are."""
    missing: dict[bytes, list[int]] = defaultdict(list)  # two samples may have one picture
    for position, picture in enumerate(pictures):
        missing[picture].append(position)
    for found in sorted(there.values(), key=lambda found: found.path != own):
        numbers = {picture: number for number, picture in enumerate(found.pictures) if picture in missing}
        if numbers:
            for picture, row in zip(numbers, found.rows(list(numbers.values())), strict=True):
                rows[missing.pop(picture)] = row
        if not missing:
            break
    return sorted(position for positions in missing.values() for position in positions)


def prune(workspace: Workspace, keep: Collection[Path]) -> None:
    """Delete what is not a file of today: other shards' features, those of an earlier backbone, leftovers."""
    for path in sorted(workspace.features_folder.rglob("*")):
        if path.is_file() and path not in keep:
            remove(path)


def progress(missing: int) -> tqdm[NoReturn]:
    return tqdm(
        total=missing,
        desc="features",
        unit="picture",
        disable=missing == 0,
        mininterval=0.5 if sys.stderr.isatty() else 15,
    )


if __name__ == "__main__":
    run(features)
