import re
from pathlib import Path

import pytest
from faults import NO_FILE

from training.data.forget_list import read_forget_lists
from training.errors import ForgetListError


def ids(folder: Path) -> list[str]:
    return [entry.sample_id for entry in read_forget_lists(folder)]


def test_every_list_is_read_in_order_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("3\n")
    (tmp_path / "a.txt").write_text("# a request\n\n1\n2\n")
    entries = read_forget_lists(tmp_path)
    assert [(entry.file.name, entry.line, entry.sample_id) for entry in entries] == [
        ("a.txt", 3, "1"),
        ("a.txt", 4, "2"),
        ("b.txt", 1, "3"),
    ]
    assert str(entries[0]) == f"{tmp_path.name}/a.txt:3: '1'"


def test_comments_spaces_windows_line_ends_and_a_byte_order_mark_are_no_part_of_an_id(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf12\r\n 13 # asked on Monday\r\n  # only a note\r\n\t14\t# tab\r\n")
    assert ids(tmp_path) == ["12", "13", "14"]


def test_a_hash_inside_a_name_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat/no#1.png\n")
    assert ids(tmp_path) == ["cat/no#1.png"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ForgetListError, match="is missing"):
        read_forget_lists(tmp_path / "forget")


@pytest.mark.parametrize(
    "name",
    [
        "requests.csv",
        "requests.txt~",
        ".x.txt",
        ".requests.txt.swp",
        "#requests.txt#",
        "requests",
        "A.TXT",
        "readme.md",
    ],
)
def test_a_file_that_would_not_be_read_as_a_list_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("1\n")
    (tmp_path / name).write_text("2\n")
    with pytest.raises(
        ForgetListError, match=re.escape(f"{tmp_path / name} would not be read: forget lists are named")
    ):
        read_forget_lists(tmp_path)


@pytest.mark.parametrize("name", ["more", ".more", "more.txt", "README.md"])
def test_a_folder_of_lists_is_refused_even_when_it_is_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ForgetListError, match=re.escape(f"{tmp_path / name} would not be read")):
        read_forget_lists(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", ".#a.txt", "README.md"])
@pytest.mark.parametrize("kind", NO_FILE)
def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str, name: str) -> None:
    NO_FILE[kind][0](tmp_path / name)
    with pytest.raises(ForgetListError, match=re.escape(f"{tmp_path / name} would not be read")):
        read_forget_lists(tmp_path)


def test_a_list_may_be_a_link_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "forget").mkdir()
    (tmp_path / "secret").write_text("3\n")
    (tmp_path / "forget/a.txt").symlink_to(tmp_path / "secret")
    assert ids(tmp_path / "forget") == ["3"]


@pytest.mark.parametrize("name", ["README.md", ".gitkeep", ".gitignore", ".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_nobody_means_as_a_list_may_lie_beside_the_lists(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("7\n")
    (tmp_path / "a.txt").write_text("1\n")
    assert ids(tmp_path) == ["1"]


def test_everything_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / ".x.txt").write_text("1\n")
    (tmp_path / "b.txt").write_bytes(b"\xe9")
    (tmp_path / "c.txt").write_bytes(b"\xe9")
    with pytest.raises(ForgetListError) as caught:
        read_forget_lists(tmp_path)
    for name, reason in ((".x.txt", "would not be read"), ("b.txt", "is not UTF-8"), ("c.txt", "is not UTF-8")):
        assert f"{tmp_path / name} {reason}" in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file of Linux whose reading fails")
def test_a_list_whose_reading_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("/proc/self/mem")
    with pytest.raises(ForgetListError, match=r"a\.txt cannot be read \(Input/output error\)"):
        read_forget_lists(tmp_path)


def test_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café/1.png".encode("latin-1"))
    with pytest.raises(ForgetListError, match=r"a\.txt is not UTF-8"):
        read_forget_lists(tmp_path)
