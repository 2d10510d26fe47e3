"""The ledger: linked entries in two copies that must continue each other."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import ENVIRONMENT

from training.errors import LedgerError
from training.publish.events import Entry, Published
from training.publish.history import cost
from training.publish.ledger import FIRST, Ledger, encode
from training.publish.record import ShardRecord, SliceCost


def record(shard: int, keys: list[str], sample_epochs: int = 10, seconds: float = 1.5) -> ShardRecord:
    slices = [
        SliceCost(key=key, samples=5, sample_epochs=sample_epochs * number, seconds=seconds, device="cpu")
        for number, key in enumerate(keys, start=1)
    ]
    return ShardRecord(
        shard=shard,
        retained=5,
        keys=tuple(keys),
        merkle_root="root",
        sha256="digest",
        graph="graph",
        slices=tuple(slices),
    )


def published(entries: list[Entry], *shards: ShardRecord, generation: int | None = None) -> Published:
    return Published.model_validate(
        {
            "number": len(entries) + 1,
            "time": "2026-11-26T00:00:00+00:00",
            "actor": "tester",
            "previous": hashlib.sha256(encode(entries[-1])).hexdigest() if entries else FIRST,
            "generation": generation or len(entries) + 1,
            "manifest_sha256": "m",
            "release_sha256": "r",
            "shards": shards,
        }
    )


class Copies:
    """A ledger with both copies in a folder."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.export = folder / "ledger.jsonl", folder / "export.jsonl"
        self.ledger = Ledger(self.ours, self.export)

    def append(self, number: int) -> None:
        for _ in range(number):
            self.ledger.append(published(self.ledger.read(), record(0, ["a"])))


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path)


def test_entries_come_back_in_order_in_both_copies(copies: Copies) -> None:
    assert copies.ledger.read() == []
    copies.append(3)
    entries = copies.ledger.read()
    assert [(entry.number, entry.event) for entry in entries] == [(1, "published"), (2, "published"), (3, "published")]
    assert copies.ours.read_bytes() == copies.export.read_bytes()
    assert entries[0].actor
    assert entries[0].time.endswith("+00:00")


def test_a_line_is_linked_to_the_one_before(copies: Copies) -> None:
    copies.append(2)
    first, second = copies.ours.read_bytes().splitlines(keepends=True)
    assert json.loads(first)["previous"] == "0" * 64
    assert json.loads(second)["previous"] == hashlib.sha256(first).hexdigest()


@pytest.mark.parametrize("shorter", ["ours", "export"])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_the_shorter_copy_is_extended(copies: Copies, shorter: str, kept: int) -> None:
    copies.append(3)
    path: Path = getattr(copies, shorter)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:kept]))
    assert len(copies.ledger.reconcile()) == 3
    assert copies.ours.read_bytes() == copies.export.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 1])
def test_an_entry_is_appended_to_all_that_either_copy_has(copies: Copies, kept: int) -> None:
    copies.append(2)
    before = copies.ledger.read()
    copies.ours.write_bytes(b"".join(copies.ours.read_bytes().splitlines(keepends=True)[:kept]))
    copies.ledger.append(published(before, record(0, ["z"]), generation=9))
    assert [entry.number for entry in copies.ledger.read()] == [*(entry.number for entry in before), len(before) + 1]
    assert copies.ours.read_bytes() == copies.export.read_bytes()


def test_what_was_cut_off_while_it_was_written_is_not_glued_to_the_next_entry(copies: Copies) -> None:
    copies.append(2)
    with copies.ours.open("ab") as file:
        file.write(b'{"actor":"root","event":"ver')
    copies.append(1)
    assert [entry.number for entry in copies.ledger.read()] == [1, 2, 3]
    assert copies.ours.read_bytes() == copies.export.read_bytes()


def test_copies_that_fork_stop_with_both_heads(copies: Copies, tmp_path: Path) -> None:
    copies.append(2)
    other = Copies(tmp_path / "other")
    other.ours.parent.mkdir()
    other.ours.write_bytes(copies.ours.read_bytes().splitlines(keepends=True)[0])
    other.ledger.append(published(other.ledger.read(), record(0, ["b"])))
    copies.export.write_bytes(other.ours.read_bytes())
    before = copies.ours.read_bytes()
    with pytest.raises(
        LedgerError, match=r"entry 2 \([0-9a-f]{16}\), .*entry 2 \([0-9a-f]{16}\), and neither"
    ) as error:
        copies.ledger.reconcile()
    assert "docs/ledger.md" in str(error.value)
    assert copies.ours.read_bytes() == before


@pytest.mark.parametrize("change", ["edited", "removed", "swapped"])
def test_an_entry_that_was_tampered_with_is_found(copies: Copies, change: str) -> None:
    copies.append(3)
    lines = copies.ours.read_bytes().splitlines(keepends=True)
    if change == "edited":
        lines[1] = lines[1].replace(b'"retained":5', b'"retained":6')
    elif change == "removed":
        del lines[1]
    else:
        lines[0], lines[1] = lines[1], lines[0]
    for path in (copies.ours, copies.export):
        path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match="not linked to the one before"):
        copies.ledger.read()


def test_a_line_that_is_not_an_entry_is_named(copies: Copies) -> None:
    copies.append(1)
    for path in (copies.ours, copies.export):
        path.write_bytes(path.read_bytes() + b'{"event": "made up"}\n')
    with pytest.raises(LedgerError, match="line 2 of the ledger is damaged"):
        copies.ledger.read()


def test_a_line_that_was_cut_off_while_it_was_written_does_not_count(
    copies: Copies, caplog: pytest.LogCaptureFixture
) -> None:
    copies.append(2)
    whole = copies.ours.read_bytes()
    copies.ours.write_bytes(whole + encode(published(copies.ledger.read(), record(0, ["a"])))[:40])
    assert len(copies.ledger.reconcile()) == 2
    assert "was cut off while it was written" in caplog.text
    assert copies.ours.read_bytes() == whole


def test_the_cost_of_a_generation_is_what_its_chains_have_that_the_one_before_had_not() -> None:
    first = published([], record(0, ["a0", "a1"]), record(1, ["b0", "b1"]))
    second = published([first], record(0, ["a0", "a1"]), record(1, ["b0", "c1"], seconds=2.5))
    of_first, of_second = cost([first]), cost([first, second])
    assert (of_first.shards, of_first.slices, of_first.sample_epochs, of_first.seconds) == (2, 4, 60, 6.0)
    assert (of_second.shards, of_second.slices, of_second.sample_epochs, of_second.seconds) == (1, 1, 20, 2.5)
    assert (of_second.full_shards, of_second.full_slices, of_second.full_sample_epochs) == (2, 4, 60)
    assert of_second.full_seconds == 1.5 + 1.5 + 2.5 + 2.5


def test_a_generation_of_the_same_models_cost_nothing() -> None:
    first = published([], record(0, ["a0"]))
    assert cost([first, published([first], record(0, ["a0"]))]).sample_epochs == 0


def test_there_is_no_cost_of_what_was_imported() -> None:
    with pytest.raises(ValueError, match="has no published generation"):
        cost([])


DOCUMENTED = (Path(__file__).parents[1] / "docs/ledger.md").read_text()


def test_the_documented_entry_is_an_entry() -> None:
    (block,) = re.findall(r"```jsonc\n(.*?)```", DOCUMENTED, re.DOTALL)
    document = json.loads(re.sub(r"//.*", "", block))
    entry = Published.model_validate(document)
    assert entry.generation == 2
    assert json.loads(encode(entry)) == document  # no field is missing


def test_the_documented_command_shows_where_the_copies_differ(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in (".sisa", "models")]
    for folder, key in zip(folders, "ab", strict=True):
        folder.mkdir()
        ledger = Ledger(folder / "ledger.jsonl", folder / "ledger.jsonl")
        ledger.append(published([], record(0, [key])))
    (command,) = re.findall(r"```sh\n(python -.*?END\n)```", DOCUMENTED, re.DOTALL)
    done = subprocess.run(
        ["bash", "-ec", command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert (
        re.findall(r"^(\S+ledger\.jsonl|\d+ .* published 1 m)$", done.stdout, re.MULTILINE) == done.stdout.splitlines()
    )
    assert len(done.stdout.splitlines()) == 4


def test_a_first_line_that_was_cut_off_is_cut_away(copies: Copies) -> None:
    copies.ours.write_bytes(encode(published([], record(0, ["a"])))[:40])
    assert copies.ledger.reconcile() == []
    copies.append(2)
    assert [entry.number for entry in copies.ledger.read()] == [1, 2]


def test_a_line_that_cannot_be_flushed_is_taken_back(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    copies.append(1)
    before = copies.ours.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    entry = published(copies.ledger.read(), record(0, ["b"]))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            copies.ledger.append(entry)
    assert copies.ours.read_bytes() == before
    copies.ledger.append(entry)
    assert len(copies.ledger.read()) == 2


def test_the_next_entry_is_linked_to_the_line_as_it_stands(copies: Copies) -> None:
    copies.append(1)
    spaced = json.dumps(json.loads(copies.ours.read_bytes())).encode() + b"\n"  # the same entry, spelt otherwise
    for path in (copies.ours, copies.export):
        path.write_bytes(spaced)
    entry = Published.model_validate({**published([], record(0, ["b"])).model_dump(), **copies.ledger.stamp()})
    copies.ledger.append(entry)
    assert [each.number for each in copies.ledger.read()] == [1, 2]
