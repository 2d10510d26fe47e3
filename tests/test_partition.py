"""Sources and partition, on a workspace with params.yaml, forget/ and data/."""

import io
import json
import logging
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import SMALL
from faults import link_to_nowhere
from PIL import Image
from test_suggestions import TRIED

from serving.decoding import decode_files
from training.data.imagefolder import read_split
from training.data.listing import list_pictures
from training.data.source import Source, open_source
from training.data.store import Shard, load_shard
from training.errors import ChangedError, ForgetListError, SourceError
from training.forgetting.reinstate import reinstate
from training.memory.digests import FileDigests
from training.stages import partition as stage
from training.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
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


def partition(folder: Path) -> None:
    stage.partition(Workspace(folder))


def source_of(folder: Path) -> Source:
    workspace = Workspace(folder)
    params = workspace.read_params()
    return open_source(params.data, workspace.source_folder(params), workspace.subjects_file(params))


def shards(folder: Path) -> list[Shard]:
    return [load_shard(path) for path in sorted((folder / "data/shards").iterdir())]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "data/shards").iterdir()}


def test_digits_hold_every_picture_once_and_test_is_a_stratified_fifth(folder: Path) -> None:
    partition(folder)
    test, parts = load_shard(folder / "data/test.npy"), shards(folder)
    ids = [sample_id for shard in parts for sample_id in shard.ids]
    assert sorted(ids, key=int) == [str(number) for number in range(1442)]  # 1797 − 355
    assert len(test.ids) == 355
    # scikit-learn's digits have 174 to 183 of each class; every fifth is 34 to 36.
    assert set(np.bincount(test.labels)) <= {34, 35, 36}
    assert parts[0].images.shape[1:] == (8, 8, 3)
    assert parts[0].images.max() == 255  # 16, the digits' white
    assert all((np.diff(shard.slices) >= 0).all() for shard in parts)


def test_the_same_samples_give_the_same_bytes(folder: Path) -> None:
    partition(folder)
    before = contents(folder)
    for path in (folder / "data/shards").iterdir():
        path.unlink()
    partition(folder)
    assert contents(folder) == before


def test_a_forgotten_sample_leaves_one_file_and_the_others_are_not_rewritten(folder: Path) -> None:
    partition(folder)
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in (folder / "data/shards").iterdir()}
    shard_id, victim = 1, load_shard(folder / "data/shards/shard-1.npy")
    (folder / "forget/a.txt").write_text(f"{victim.ids[5]}\n")
    partition(folder)
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in (folder / "data/shards").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {f"shard-{shard_id}.npy"}
    left = load_shard(folder / "data/shards/shard-1.npy")
    assert left.ids == [sample_id for sample_id in victim.ids if sample_id != victim.ids[5]]
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
    partition(folder)
    before = contents(folder)
    (folder / "forget/a.txt").write_text(f"5\n{text}\n")
    with pytest.raises(ForgetListError) as caught:
        partition(folder)
    assert f"forget/a.txt:2: {text!r}: {reason}" in str(caught.value)
    assert contents(folder) == before


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
        ("cats/1.png", "there is no class 'cats'; the classes are cat, dog"),
        ("train/cat/1.png", "there is no class 'train'"),
        ("cat/1.PNG", "upper and lower case differ from those of the file 'cat/1.png'"),
    ],
)
def test_an_impossible_path_is_named_and_nothing_is_changed(
    folder: Path, pictures: Path, text: str, reason: str
) -> None:
    draw(pictures / "train/cat/caf\u00e9.png", (1, 2, 3))
    partition(folder)
    before = contents(folder)
    (folder / "forget/a.txt").write_text(f"cat/1.png\n{text}\n")
    with pytest.raises(ForgetListError, match="nothing was changed") as caught:
        partition(folder)
    assert f"forget/a.txt:2: {text!r}" in str(caught.value)
    assert reason in str(caught.value)
    assert contents(folder) == before


def test_listing_a_picture_and_removing_its_file_leave_the_same_shards(folder: Path, pictures: Path) -> None:
    (folder / "forget/a.txt").write_text("dog/3.png\n")
    partition(folder)
    listed = contents(folder)
    (folder / "forget/a.txt").unlink()
    reinstate(Workspace(folder), ["dog/3.png"], "a test")
    (pictures / "train/dog/3.png").unlink()
    for path in (folder / "data/shards").iterdir():  # a first partition: one of 20 would be too many to vanish unasked
        path.unlink()
    partition(folder)
    assert contents(folder) == listed


def test_a_listed_picture_that_is_already_gone_is_counted_and_reported(
    folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "forget/a.txt").write_text("dog/3.png\ndog/4.png\n")
    partition(folder)
    (pictures / "train/dog/4.png").unlink()
    capsys.readouterr()
    partition(folder)
    out = capsys.readouterr().out
    assert "forgotten: 2 ids listed, 1 of them already gone from the source" in out
    assert "already gone: forget/a.txt:2: 'dog/4.png'" in out


@pytest.mark.parametrize("text", [*TRIED, "cat/*"])
def test_a_misspelled_line_stops_the_run_and_names_what_it_may_have_meant(
    folder: Path, pictures: Path, text: str
) -> None:
    partition(folder)
    before = contents(folder)
    (folder / "forget/a.txt").write_text(f"cat/1.png\n{text}\n")
    for _ in range(2):  # it is not known from then on
        with pytest.raises(ForgetListError, match="nothing was changed") as caught:
            partition(folder)
        (line,) = [line for line in str(caught.value).splitlines() if f"forget/a.txt:2: {text!r}" in line]
        assert "'cat/3.png'" in line or "it would stand for 10 ids ('cat/0.png'" in line
    assert contents(folder) == before


def test_forgetting_the_last_picture_of_a_class_keeps_the_other_labels(folder: Path, pictures: Path) -> None:
    for path in (pictures / "train/cat").iterdir():
        path.unlink()
    partition(folder)
    assert {label for shard in shards(folder) for label in shard.labels} == {1}


def test_only_pictures_not_held_already_are_decoded(
    folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def decoded() -> int:
        partition(folder)
        return sum(map(int, re.findall(r"\((\d+) pictures decoded\)", capsys.readouterr().out)))

    assert decoded() == 20
    (folder / "forget/a.txt").write_text("dog/3.png\n")
    assert decoded() == 0
    draw(pictures / "train/cat/4.png", (9, 9, 9))
    assert decoded() == 1


def test_a_damaged_shard_file_is_rebuilt(folder: Path) -> None:
    partition(folder)
    before = contents(folder)
    path = folder / "data/shards/shard-1.npy"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    partition(folder)
    assert contents(folder) == before


def test_files_of_shards_that_are_no_longer_wanted_are_deleted(folder: Path) -> None:
    partition(folder)
    document = {**SMALL, "sisa": {**SMALL["sisa"], "shards": [0, 1]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    (folder / "data/shards/.shard-0.npy.abc.tmp").write_bytes(b"left by a killed run")
    partition(folder)
    assert set(contents(folder)) == {"shard-0.npy", "shard-1.npy"}


def test_a_monitored_list_forgets_nothing_and_is_still_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partition(folder)
    before = contents(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump({**SMALL, "forget": {"apply": False}}))
    (folder / "forget/a.txt").write_text("3\n5\n")
    partition(folder)
    assert contents(folder) == before
    assert "only monitored, for forget.apply is false: 2 ids listed" in capsys.readouterr().out
    summary = json.loads((folder / "data/partition.json").read_text())
    assert (summary["forgotten"]["listed"], summary["monitored"]["listed"]) == (0, 2)
    (folder / "forget/a.txt").write_text("007\n")
    with pytest.raises(ForgetListError, match=r"forget/a\.txt:1: '007'"):
        partition(folder)


def test_monitoring_does_not_bring_back_what_is_forgotten(folder: Path) -> None:
    (folder / "forget/a.txt").write_text("3\n5\n")
    partition(folder)
    before = contents(folder)
    watch = yaml.safe_dump({**SMALL, "forget": {"apply": False}})
    (folder / "params.yaml").write_text(watch)
    (folder / "forget/b.txt").write_text("8\n")
    with pytest.raises(
        ForgetListError, match=r"2 listed samples \(3, 5\) are not trained on now.*take them off the lists"
    ):
        partition(folder)
    assert contents(folder) == before

    (folder / "data/partition.json").write_text("damaged")
    with pytest.raises(ForgetListError, match=r"damaged .* Set forget.apply to true"):
        partition(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(SMALL))
    partition(folder)
    (folder / "params.yaml").write_text(watch)
    for path in (folder / "data/shards").iterdir():  # what is held cannot be seen: nothing is risked
        path.rename(folder / path.name)
    with pytest.raises(ForgetListError, match=r"3 listed samples \(3, 5, 8\) are not trained on now"):
        partition(folder)
    for path in folder.glob("*.npy"):
        path.rename(folder / "data/shards" / path.name)

    # Reinstated they come back; once nothing on the lists is forgotten any more, they may be monitored.
    for name in "ab":
        (folder / f"forget/{name}.txt").write_text("")
    reinstate(Workspace(folder), ["3", "5", "8"], "a test")
    partition(folder)
    everything = contents(folder)
    assert everything != before
    (folder / "forget/b.txt").write_text("8\n")
    partition(folder)
    assert contents(folder) == everything


def test_a_partition_that_waits_for_another_reads_the_lists_after_it(folder: Path, pictures: Path) -> None:
    partition(folder)
    held = threading.Event()

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            held.set()

    with Workspace(folder).partition_lock():
        handler = Waits()
        logging.getLogger("training").addHandler(handler)
        waiting = threading.Thread(target=partition, args=(folder,))
        waiting.start()
        assert held.wait(30)  # it says for whom it waits, and has read nothing yet
        (folder / "forget/a.txt").write_text("dog/3.png\n")
    waiting.join()
    logging.getLogger("training").removeHandler(handler)
    assert "dog/3.png" not in [name for shard in shards(folder) for name in shard.ids]


def test_forgetting_everything_is_refused(folder: Path) -> None:
    (folder / "forget/a.txt").write_text("".join(f"{number}\n" for number in range(1442)))
    with pytest.raises(ForgetListError, match="nothing is retained"):
        partition(folder)


def test_pictures_are_resized_turned_upright_and_made_rgb(folder: Path, pictures: Path) -> None:
    # Left half black, right half white, stored on its side with the note "turn by 90° clockwise":
    # upright, the left half of the stored picture is on top.
    stored = Image.new("L", (40, 20))
    stored.paste(255, (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(pictures / "train/cat/0.png", exif=exif)
    train = source_of(folder).train
    picture = train.decode(train.ids.index("cat/0.png")).image
    assert picture.shape == (8, 8, 3)
    assert picture[0].max() == 0
    assert picture[7].min() == 255


def test_a_picture_is_the_same_image_in_training_as_in_serving(folder: Path, pictures: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 23, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = noise.convert("RGBA")
    clear.putalpha(100)
    files = {"a.png": (noise, {}), "b.jpg": (noise, {"exif": turned}), "c.webp": (noise, {}), "d.png": (clear, {})}
    for name, (picture, options) in files.items():
        picture.save(pictures / "train/cat" / name, **options)  # type: ignore[arg-type]
    train = source_of(folder).train
    for name in files:
        with (pictures / "train/cat" / name).open("rb") as file:
            served = decode_files([file], (8, 8, 3), max_pixels=10_000)[0]
        assert np.array_equal(train.decode(train.ids.index(f"cat/{name}")).image, served)


def test_a_file_that_is_not_a_picture_is_named(folder: Path, pictures: Path) -> None:
    (pictures / "train/cat/broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"root/train/cat/broken\.jpg: not a readable picture"):
        partition(folder)


def test_a_picture_that_breaks_the_decoder_is_named(folder: Path, pictures: Path) -> None:
    shutil.copy(Path(__file__).parent / "pictures/truncated-but-closed.jpg", pictures / "train/dog/broken.jpg")
    with pytest.raises(SourceError, match=r"root/train/dog/broken\.jpg: not a readable picture \(.*premature end"):
        partition(folder)
    (pictures / "train/dog/broken.jpg").unlink()
    (pictures / "test/dog/empty.bmp").write_bytes(b"BM")
    with pytest.raises(SourceError, match=r"root/test/dog/empty\.bmp: not a readable picture"):
        partition(folder)


def test_a_picture_that_is_made_to_take_minutes_is_named_at_once(folder: Path, pictures: Path) -> None:
    """Segments and chunks by the million, and scan after scan that says nothing new."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.new("L", (2000, 2000), 90).save(jpeg, "JPEG", progressive=True)
    Image.new("L", (8, 8)).save(png, "PNG")
    content, chunks = jpeg.getvalue(), png.getvalue()
    last, data = content.rindex(b"\xff\xda"), chunks.index(b"IDAT") - 4
    hostile = {
        "scans.jpg": (content[:last] + content[last:-2] * 200 + content[-2:], "decoding the picture takes too long"),
        "segments.jpg": (content[:2] + b"\xff\xe1\0\2" * 500_000 + content[2:], "too many segments"),
        "chunks.png": (chunks[:data] + b"\0\0\0\0tEXt\0\0\0\0" * 500_000 + chunks[data:], "too many chunks"),
    }
    for name, (picture, said) in hostile.items():
        (pictures / "train/dog" / name).write_bytes(picture)
        with pytest.raises(SourceError, match=rf"root/train/dog/{name}: not a readable picture \(.*{said}"):
            partition(folder)
        (pictures / "train/dog" / name).unlink()


def test_a_picture_that_vanishes_or_changes_while_the_source_is_read_is_named(folder: Path, pictures: Path) -> None:
    found = list_pictures(pictures)
    (pictures / "train/cat/3.png").unlink()
    with pytest.raises(ChangedError, match=r"root/train/cat/3\.png vanished while the source was read; run it again"):
        read_split(pictures, "train", found, 8, FileDigests(pictures))

    train = source_of(folder).train
    (pictures / "train/cat/4.png").unlink()
    with pytest.raises(ChangedError, match=r"root/train/cat/4\.png vanished while the source was read; run it again"):
        train.decode(train.ids.index("cat/4.png"))
    draw(pictures / "train/cat/5.png", (1, 2, 3))
    with pytest.raises(ChangedError, match=r"root/train/cat/5\.png changed while the source was read; run it again"):
        train.decode(train.ids.index("cat/5.png"))


def test_a_picture_that_becomes_a_folder_while_the_source_is_read_is_named(folder: Path, pictures: Path) -> None:
    found = list_pictures(pictures)
    (pictures / "train/cat/3.png").unlink()
    (pictures / "train/cat/3.png").mkdir()
    with pytest.raises(SourceError, match=r"root/train/cat/3\.png cannot be read \(Is a directory\)"):
        read_split(pictures, "train", found, 8, FileDigests(pictures))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file of Linux whose reading fails")
def test_a_picture_whose_reading_fails_is_named(folder: Path, pictures: Path) -> None:
    (pictures / "train/cat/x.png").symlink_to("/proc/self/mem")
    with pytest.raises(SourceError, match=r"root/train/cat/x\.png cannot be read \(Input/output error\)"):
        partition(folder)


def test_everything_that_must_not_be_in_the_source_is_named_at_once_and_nothing_is_changed(
    folder: Path, pictures: Path
) -> None:
    partition(folder)
    before = contents(folder)
    (pictures / "train/bird").symlink_to(pictures / "test/cat")
    for number in range(30):
        link_to_nowhere(pictures / f"train/cat/gone-{number:02d}.png")
    with pytest.raises(SourceError, match=r"root cannot be used; nothing was changed") as caught:
        partition(folder)
    assert "root/train/cat/gone-19.png: a link to nowhere" in str(caught.value)
    assert "… and 11 more" in str(caught.value)  # 30 + 1 − 20
    assert contents(folder) == before


def test_a_source_or_lists_that_dvc_ignores_are_refused(folder: Path, pictures: Path) -> None:
    for pattern, refused in (("/root", "22 of 22"), ("cat", "11 of 22"), ("*.txt", "1 of 2")):
        (folder / ".dvcignore").write_text(f"{pattern}\n")
        with pytest.raises(SourceError, match=f"DVC ignores {refused} in .* would go unnoticed"):
            partition(folder)
    (folder / ".dvcignore").write_text("/roo\n*.tmp\n")
    partition(folder)


def test_what_tools_left_behind_is_not_trained_on_and_said(
    folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partition(folder)
    before = contents(folder)
    draw(pictures / "train/cat/@eaDir/0.png", (1, 2, 3))
    draw(pictures / "train/.bird/0.png", (1, 2, 3))
    draw(pictures / "test/__MACOSX/0.png", (1, 2, 3))
    capsys.readouterr()
    partition(folder)
    assert contents(folder) == before
    assert json.loads((folder / "data/partition.json").read_text())["classes"] == ["cat", "dog"]
    out = capsys.readouterr().out
    for name in ("@eaDir", ".bird", "__MACOSX"):
        assert f"{name} (folders: 1, pictures in them: 1)" in out


def test_a_name_that_no_list_could_hold_is_refused(folder: Path, pictures: Path) -> None:
    draw(pictures / "train/cat/a #1.png", (0, 0, 0))
    with pytest.raises(SourceError, match="could not be written in a forget list"):
        partition(folder)


def test_a_folder_of_another_shape_is_refused(folder: Path) -> None:
    change(folder, source="imagefolder", root="elsewhere")
    with pytest.raises(SourceError, match="elsewhere/train is not a folder; expected"):
        partition(folder)


@pytest.mark.data
@pytest.mark.skipif(
    not Path(__file__).parents[1].joinpath("data/raw/cifar-10-batches-py").is_dir(), reason="needs CIFAR-10 in data/raw"
)
def test_cifar10_is_in_torchvisions_order(folder: Path) -> None:
    change(folder, source="cifar10", root=str(Path(__file__).parents[1] / "data/raw"), image_size=32)
    source = source_of(folder)
    assert (len(source.train.ids), len(source.test.ids)) == (50_000, 10_000)
    assert (source.train.ids[0], source.train.ids[-1]) == ("0", "49999")
    assert source.classes[source.train.labels[0]] == "frog"  # the data set's first picture
    assert source.train.decode(0).image[0, 0].tolist() == [59, 62, 63]
