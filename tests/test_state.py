"""What must outlive a restart: the list of withdrawn models only grows, and a damaged one is never taken for empty."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ensemble.manifest import EnsembleUnavailable
from serving.state import Floor, Withdrawn, mark

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
DIGESTS = st.integers(0, 9).map(lambda digit: str(digit) * 64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/withdrawn.json"


def alone(path: Path) -> Withdrawn:
    """A list whose copy's folder is not there."""
    return Withdrawn(path, path.parent / "elsewhere/withdrawn.json")


@given(st.lists(st.tuples(st.integers(0, 2), st.sets(DIGESTS, max_size=4), st.booleans()), max_size=12))
def test_what_was_withdrawn_once_is_so_for_every_reader_and_after_every_restart(
    requests: list[tuple[int, set[str], bool]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "withdrawn.json"
        processes = [alone(path) for _ in range(3)]
        expected: set[str] = set()
        for number, digests, restarts in requests:
            if restarts:
                processes[number] = alone(path)
            before = mark(path)
            fresh, known = processes[number].add(digests)
            assert fresh == digests - expected
            expected |= digests
            assert known == expected
            assert all(process.read() == expected for process in processes)
            assert (mark(path) != before) == bool(fresh)  # readers look at nothing else


def test_nothing_is_withdrawn_before_the_first_request(path: Path) -> None:
    assert alone(path).read() == frozenset()
    assert mark(path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"withdrawn": null}',
        b'{"withdrawn": {"A": "2026-11-26"}}',
        b"\xff\xfe",
        json.dumps({"withdrawn": {A: "2026-11-26"}}).encode()[:-3],
    ],
)
def test_a_damaged_list_is_an_error_for_reader_and_writer_and_stays_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for act in (alone(path).read, lambda: alone(path).add([B])):
        with pytest.raises(EnsembleUnavailable, match=r"withdrawn\.json, the models that were .*, cannot be read"):
            act()
    assert path.read_bytes() == content


def unlink(path: Path) -> None:
    path.unlink()


def go_back(path: Path) -> None:
    path.write_text(json.dumps({"withdrawn": {A: "then"}}))


@pytest.mark.parametrize("damage", [unlink, go_back])
def test_a_list_that_has_lost_what_it_held_is_an_error(path: Path, damage: Callable[[Path], None]) -> None:
    withdrawn = alone(path)
    withdrawn.add([A, B])
    content = path.read_bytes()
    damage(path)
    with pytest.raises(EnsembleUnavailable, match=r"lacks \d of the models that were withdrawn"):
        withdrawn.read()
    with pytest.raises(EnsembleUnavailable, match=r"lacks \d of the models that were withdrawn"):
        withdrawn.add([C])
    path.write_bytes(content)
    assert withdrawn.read() == {A, B}


def test_a_list_that_cannot_be_written_withdraws_nothing_and_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    withdrawn = alone(path)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            withdrawn.add([A])
    assert [found.name for found in path.parent.iterdir()] == ["withdrawn.lock"]
    assert withdrawn.add([A])[0] == {A}


def test_services_that_share_the_manifests_volume_alone_believe_the_copy_there(tmp_path: Path) -> None:
    copy = tmp_path / "models/withdrawn.json"
    copy.parent.mkdir()
    one, other = (Withdrawn(tmp_path / name / "withdrawn.json", copy) for name in ("one", "other"))
    before = other.marks
    one.add([A])
    assert other.marks != before
    assert other.read() == {A}
    assert other.add([A, B])[0] == {B}
    copy.unlink()  # as when models are copied there anew
    assert one.read() == {A}
    assert other.read() == {A, B}
    copy.write_text("{")
    with pytest.raises(EnsembleUnavailable, match=r"models/withdrawn\.json, the models that were withdrawn, cannot"):
        one.read()


def test_a_process_killed_right_after_it_withdrew_has_done_so_and_asking_again_changes_nothing(path: Path) -> None:
    program = (
        "import os, signal; from pathlib import Path; from serving.state import Withdrawn\n"
        f"Withdrawn(Path({str(path)!r}), Path('/nowhere/at/all')).add([{A!r}])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == -signal.SIGKILL
    content = path.read_bytes()
    fresh, known = alone(path).add([A])
    assert not fresh
    assert known == {A}
    assert path.read_bytes() == content


@pytest.mark.heavy
def test_whatever_moment_a_writer_is_killed_at_each_confirmed_digest_is_kept(path: Path) -> None:
    """Each child withdraws one digest after the other and says so when it is confirmed; 20 of them are killed."""
    program = (
        "import hashlib, sys; from pathlib import Path; from serving.state import Withdrawn\n"
        f"withdrawn = Withdrawn(Path({str(path)!r}), Path('/nowhere/at/all'))\n"
        "for number in range(100_000):\n"
        "    digest = hashlib.sha256(f'{sys.argv[1]} {number}'.encode()).hexdigest()\n"
        "    withdrawn.add([digest])\n"
        "    print(digest, flush=True)\n"
    )
    confirmed: set[str] = set()
    for round_ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(round_)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        for _ in range(1 + round_):
            confirmed.add(child.stdout.readline().strip())
        child.kill()
        confirmed |= {line.strip() for line in child.stdout if line.endswith("\n")}
        child.wait()
        child.stdout.close()
        assert confirmed <= alone(path).read()
    alone(path).add([A])
    assert {found.name for found in path.parent.iterdir()} == {"withdrawn.json", "withdrawn.lock"}


def test_a_floor_given_at_deployment_holds_where_nothing_has_been_seen(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "floor.json", lowest=7)
    with pytest.raises(EnsembleUnavailable, match=r"generation 6 is published, but .* 7 .*SISA_SERVE_MIN_GENERATION"):
        floor.admit(6, A)
    assert floor.read() == (0, None)
    floor.admit(7, A)
    assert floor.read() == (7, A)


def test_a_floor_given_at_deployment_does_not_lower_the_one_that_was_seen(tmp_path: Path) -> None:
    Floor(tmp_path / "floor.json").admit(9, A)
    with pytest.raises(EnsembleUnavailable, match="generation 8 is published, but 9 has been seen"):
        Floor(tmp_path / "floor.json", lowest=7).admit(8, A)


def test_a_file_that_cannot_be_looked_at_is_not_taken_for_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert mark(tmp_path / "missing") is None
    assert mark(tmp_path / "file/below") is not None
