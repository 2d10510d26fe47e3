from pathlib import Path

import pytest

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


def test_a_list_that_would_not_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "requests.csv").write_text("1\n")
    with pytest.raises(ForgetListError, match=r"requests\.csv would not be read: forget lists are named"):
        read_forget_lists(tmp_path)


def test_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café/1.png".encode("latin-1"))
    with pytest.raises(ForgetListError, match=r"a\.txt is not UTF-8"):
        read_forget_lists(tmp_path)
