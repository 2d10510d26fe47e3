"""Sources and partition, run as the stage is: in a folder with params.yaml, forget/ and data/."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import SMALL
from numpy.typing import NDArray
from PIL import Image

from training import partition
from training.params import load_params
from training.shards import Shard, load_shard
from training.sources import open_source
from training.stage import StageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forget").mkdir()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


def draw(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pictures(folder: Path) -> Path:
    """Two classes of ten plain pictures each, each of another colour, and a test picture of each."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            draw(folder / f"root/train/{name}/{number}.png", (200 * label, 10 * number, 50))
        draw(folder / f"root/test/{name}/0.png", (200 * label, 0, 0))
    change(folder, source="imagefolder", root="root")
    return folder / "root"


def change(folder: Path, **data: Any) -> None:
    document = {**SMALL, "data": {**SMALL["data"], **data}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))


def shards() -> list[Shard]:
    return [load_shard(path) for path in sorted(Path("data/shards").iterdir())]


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/shards").iterdir()}


def test_digits_hold_every_picture_once_and_test_is_a_stratified_fifth(folder: Path) -> None:
    partition.main()
    test, parts = load_shard(Path("data/test.npz")), shards()
    ids = [sample_id for shard in parts for sample_id in shard.ids]
    assert sorted(ids, key=int) == [str(number) for number in range(1442)]  # 1797 − 355
    assert len(test.ids) == 355
    # scikit-learn's digits have 174 to 183 of each class; every fifth is 34 to 36.
    assert set(np.bincount(test.labels)) <= {34, 35, 36}
    assert parts[0].images.shape[1:] == (8, 8, 3)
    assert parts[0].images.max() == 255  # 16, the digits' white
    assert all((np.diff(shard.slices) >= 0).all() for shard in parts)


def test_the_same_samples_give_the_same_bytes(folder: Path) -> None:
    partition.main()
    before = contents()
    for path in Path("data/shards").iterdir():
        path.unlink()
    partition.main()
    assert contents() == before


def test_a_forgotten_sample_leaves_one_file_and_the_others_are_not_rewritten(folder: Path) -> None:
    partition.main()
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in Path("data/shards").iterdir()}
    shard_id, victim = 1, load_shard(Path("data/shards/shard-1.npz"))
    (folder / "forget/a.txt").write_text(f"{victim.ids[5]}\n")
    partition.main()
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in Path("data/shards").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {f"shard-{shard_id}.npz"}
    left = load_shard(Path("data/shards/shard-1.npz"))
    assert left.ids.tolist() == [sample_id for sample_id in victim.ids if sample_id != victim.ids[5]]
    assert not any(victim.images[5].tobytes() in content for _, content in after.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1442", "out of range: ids are 0 to 1441"),
        ("007", "an id is a number written plainly"),
        ("-1", "an id is a number written plainly"),
        ("+1", "an id is a number written plainly"),
        ("1.0", "an id is a number written plainly"),
        ("²", "an id is a number written plainly"),
        ("١", "an id is a number written plainly"),
        ("cat/1.png", "an id is a number written plainly"),
    ],
)
def test_an_impossible_number_is_named_and_nothing_is_changed(folder: Path, text: str, reason: str) -> None:
    partition.main()
    before = contents()
    (folder / "forget/a.txt").write_text(f"5\n{text}\n")
    with pytest.raises(StageError) as caught:
        partition.main()
    assert f"forget/a.txt:2: {text!r}: {reason}" in str(caught.value)
    assert contents() == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/etc/passwd", "leads outside"),
        ("cat/../../x.png", "leads outside"),
        ("cat//1.png", "spelt CLASS/NAME"),
        ("./cat/1.png", "spelt CLASS/NAME"),
        ("cat\\1.png", "spelt CLASS/NAME"),
        ("1.png", "spelt CLASS/NAME"),
        ("cat/cafe\u0301.png", "other Unicode characters than the file 'cat/caf\u00e9.png'"),
    ],
)
def test_an_impossible_path_is_named_and_nothing_is_changed(pictures: Path, text: str, reason: str) -> None:
    draw(pictures / "train/cat/caf\u00e9.png", (1, 2, 3))
    partition.main()
    before = contents()
    Path("forget/a.txt").write_text(f"cat/1.png\n{text}\n")
    with pytest.raises(StageError, match="nothing was changed") as caught:
        partition.main()
    assert f"forget/a.txt:2: {text!r}" in str(caught.value)
    assert reason in str(caught.value)
    assert contents() == before


def test_listing_a_picture_and_removing_its_file_leave_the_same_shards(pictures: Path) -> None:
    Path("forget/a.txt").write_text("dog/3.png\n")
    partition.main()
    listed = contents()
    Path("forget/a.txt").unlink()
    partition.main()
    assert contents() != listed
    (pictures / "train/dog/3.png").unlink()
    partition.main()
    assert contents() == listed


def test_a_listed_picture_that_is_already_gone_is_counted_and_reported(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("forget/a.txt").write_text("dog/3.png\ndog/99.png\n")
    partition.main()
    out = capsys.readouterr().out
    assert "forgotten: 2 ids listed, 1 of them already gone from the source" in out
    assert "already gone: forget/a.txt:2: 'dog/99.png'" in out


def test_forgetting_the_last_picture_of_a_class_keeps_the_other_labels(pictures: Path) -> None:
    for path in (pictures / "train/cat").iterdir():
        path.unlink()
    partition.main()
    assert {label for shard in shards() for label in shard.labels} == {1}


def test_only_pictures_not_held_already_are_decoded(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode: Callable[[Path, int], NDArray[np.uint8]] = __import__("training.sources").sources._decode_file

    def counting(path: Path, size: int) -> NDArray[np.uint8]:
        decoded.append(path.name)
        return decode(path, size)

    monkeypatch.setattr("training.sources._decode_file", counting)
    partition.main()
    assert len(decoded) == 22  # 20 to train on, 2 to test on
    decoded.clear()
    Path("forget/a.txt").write_text("dog/3.png\n")
    partition.main()
    assert decoded == []
    draw(pictures / "train/cat/4.png", (9, 9, 9))
    partition.main()
    assert decoded == ["4.png"]


def test_a_damaged_shard_file_is_made_anew(folder: Path) -> None:
    partition.main()
    before = contents()
    path = Path("data/shards/shard-1.npz")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    partition.main()
    assert contents() == before


def test_files_of_shards_that_are_no_longer_wanted_are_deleted(folder: Path) -> None:
    partition.main()
    document = {**SMALL, "sisa": {**SMALL["sisa"], "shards": [0, 1]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    Path("data/shards/.shard-0.npz.abc.tmp").write_bytes(b"left by a killed run")
    partition.main()
    assert set(contents()) == {"shard-0.npz", "shard-1.npz"}


def test_a_watched_list_forgets_nothing_and_is_still_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partition.main()
    before = contents()
    (folder / "params.yaml").write_text(yaml.safe_dump({**SMALL, "forget": {"apply": False}}))
    (folder / "forget/a.txt").write_text("3\n5\n")
    partition.main()
    assert contents() == before
    assert "only watched, for forget.apply is false: 2 ids listed" in capsys.readouterr().out
    summary = json.loads(Path("data/partition.json").read_text())
    assert (summary["forgotten"]["listed"], summary["watched"]["listed"]) == (0, 2)
    (folder / "forget/a.txt").write_text("007\n")
    with pytest.raises(StageError, match=r"forget/a\.txt:1: '007'"):
        partition.main()


def test_watching_does_not_bring_back_what_is_forgotten(folder: Path) -> None:
    (folder / "forget/a.txt").write_text("3\n5\n")
    partition.main()
    before = contents()
    watch = yaml.safe_dump({**SMALL, "forget": {"apply": False}})
    (folder / "params.yaml").write_text(watch)
    (folder / "forget/b.txt").write_text("8\n")
    with pytest.raises(StageError, match=r"2 listed samples \(3, 5\) are not trained on now.*take them off the lists"):
        partition.main()
    assert contents() == before

    Path("data/partition.json").write_text("damaged")
    with pytest.raises(StageError, match=r"damaged .* set forget.apply to true and run `dvc repro`"):
        partition.main()
    (folder / "params.yaml").write_text(yaml.safe_dump(SMALL))
    partition.main()
    (folder / "params.yaml").write_text(watch)
    for path in Path("data/shards").iterdir():  # what is held cannot be seen: nothing is risked
        path.rename(folder / path.name)
    with pytest.raises(StageError, match=r"3 listed samples \(3, 5, 8\) are not trained on now"):
        partition.main()
    for path in folder.glob("*.npz"):
        path.rename(folder / "data/shards" / path.name)

    # Off the lists they come back; once nothing on them is forgotten any more, lists may be watched.
    for name in "ab":
        (folder / f"forget/{name}.txt").write_text("")
    partition.main()
    everything = contents()
    assert everything != before
    (folder / "forget/b.txt").write_text("8\n")
    partition.main()
    assert contents() == everything


def test_forgetting_everything_is_refused(folder: Path) -> None:
    (folder / "forget/a.txt").write_text("".join(f"{number}\n" for number in range(1442)))
    with pytest.raises(StageError, match="nothing is retained"):
        partition.main()


def test_pictures_are_resized_turned_upright_and_made_rgb(pictures: Path) -> None:
    # Left half black, right half white, stored on its side with the note "turn by 90° clockwise":
    # upright, the left half of the stored picture is on top.
    stored = Image.new("L", (40, 20))
    stored.paste(255, (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(pictures / "train/cat/0.png", exif=exif)
    train = open_source(load_params().data).train
    picture = train.decode(train.ids.index("cat/0.png"))
    assert picture.shape == (8, 8, 3)
    assert picture[0].max() == 0
    assert picture[7].min() == 255


def test_a_file_that_is_no_picture_is_named(pictures: Path) -> None:
    (pictures / "train/cat/broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(StageError, match=r"root/train/cat/broken\.jpg: not a readable picture"):
        partition.main()


def test_a_name_that_no_list_could_hold_is_refused(pictures: Path) -> None:
    draw(pictures / "train/cat/a #1.png", (0, 0, 0))
    with pytest.raises(StageError, match="could not be written in a forget list"):
        partition.main()


def test_a_folder_of_another_shape_is_refused(folder: Path) -> None:
    change(folder, source="imagefolder", root="elsewhere")
    with pytest.raises(StageError, match="elsewhere/train is not a folder; expected"):
        partition.main()


@pytest.mark.skipif(
    not Path(__file__).parents[1].joinpath("data/raw/cifar-10-batches-py").is_dir(), reason="needs CIFAR-10 in data/raw"
)
def test_cifar10_is_in_torchvisions_order(folder: Path) -> None:
    change(folder, source="cifar10", root=str(Path(__file__).parents[1] / "data/raw"), image_size=32)
    source = open_source(load_params().data)
    assert (len(source.train.ids), len(source.test.ids)) == (50_000, 10_000)
    assert (source.train.ids[0], source.train.ids[-1]) == ("0", "49999")
    assert source.classes[source.train.labels[0]] == "frog"  # the data set's first picture
    assert source.train.decode(0)[0, 0].tolist() == [59, 62, 63]
