"""A line that names no sample stops the run and says what it may have meant; nothing is ever forgotten by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.deal import locate
from training.data.forget_list import Entry
from training.data.imagefolder import find_path
from training.data.source import Samples, Source
from training.data.store import Decoded
from training.data.suggestions import NearIds
from training.errors import ForgetListError

PICTURES = (*(f"cat/{number}.png" for number in range(10)), "cat/caf\u00e9 1.png", "cat/3 (1).png", "dog/3.png")
NUMBERS = tuple(str(number) for number in range(2000))


TRIED = (  # for cat/3.png, in forget lists
    "Cat/3.png",
    "cat/3.jpg",
    "train/cat/3.png",
    '"cat/3.png"',
    "cat/3.png,2026-01-01",
    "cat/3.png;",
    "cta/3.png",
    "cat/33.png",
    "- cat/3.png",
)


@pytest.mark.parametrize(
    "text",
    [
        *TRIED,
        # Their relatives.
        "CAT/3.PNG",
        "cat/3",
        "cat/3.png.png",
        "'cat/3.png'",
        "\u2018cat/3.png\u2019",
        "\u00abcat/3.png\u00bb",
        "`cat/3.png`",
        "<cat/3.png>",
        "cat/3.png,",
        "cat/3.png.",
        "cat/3.png\t2026-01-01 10:00",
        "17;cat/3.png;yes",
        "* cat/3.png",
        "1. cat/3.png",
        "./cat/3.png",
        "cat//3.png",
        "cat\\3.png",
        "C:\\pictures\\train\\cat\\3.png",
        "/data/pictures/train/cat/3.png",
        "file:///data/pictures/train/cat/3.png",
        "cat%2F3.png",
        "cat/3\u200b.png",  # a zero-width space
        "\ufeffcat/3.png",  # a byte order mark, as between files that were joined
        "cat/\u00ad3.png",  # a soft hyphen
        "\uff43\uff41\uff54/\uff13.png",  # full-width letters
        "c\u0430t/3.png",  # a Cyrillic а
        "cat/03.png",
        "cat-3.png",
    ],
)
def test_a_misspelled_picture_is_suggested(text: str) -> None:
    assert "'cat/3.png'" in NearIds(PICTURES).hint(text)


@pytest.mark.parametrize(
    "text", ["cat/cafe\u0301 1.png", "cat/caf\u00e9\u00a01.png", "cat/caf%C3%A9%201.png", "cat/cafe 1.png"]
)
def test_another_spelling_of_accents_and_spaces_is_seen_through(text: str) -> None:
    assert NearIds(PICTURES).hint(text) == "did you mean 'cat/caf\u00e9 1.png'?"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("007", "7"),
        ("1,234", "1234"),
        ("1.234", "1234"),
        ("1\u2019234", "1234"),
        ("1 234", "1234"),
        ("\uff11\uff12", "12"),  # full-width digits
        ("\u0661\u0662", "12"),  # Arabic ones
        ("12.0", "12"),
        ("12;", "12"),
        ("#12", "12"),
        ("+12", "12"),
        ("\u200b12", "12"),
    ],
)
def test_a_number_that_is_written_otherwise_is_suggested(text: str, number: str) -> None:
    assert NearIds(NUMBERS).hint(text) == f"did you mean '{number}'?"


@pytest.mark.parametrize("text", ["2000", "12-15", "0x10", "zebra", "\u200b", ",", "*"])
def test_numbers_that_only_look_alike_and_other_words_suggest_nothing(text: str) -> None:
    assert NearIds(NUMBERS).hint(text) == ""


def test_several_ids_in_a_line_are_all_suggested() -> None:
    assert NearIds(PICTURES).hint("cat/3.png, cat/4.png") == "did you mean 'cat/3.png' or 'cat/4.png'?"
    assert NearIds(PICTURES).hint("3.png") == "did you mean 'cat/3.png' or 'dog/3.png'?"


@pytest.mark.parametrize("text", ["dog/*", "dog", "dog/", "train/dog/", "./dog/?.png"])
def test_a_pattern_or_a_folder_says_what_it_would_stand_for(text: str) -> None:
    assert NearIds(PICTURES).hint(text) == "it would stand for 1 ids ('dog/3.png'), but each id takes a line of its own"


@given(st.text(max_size=60))
def test_any_line_gets_an_answer(text: str) -> None:
    for ids in (PICTURES, NUMBERS, ()):
        assert NearIds(ids).hint(text).count("'") <= 6 * len(text) + 200


def no_picture() -> Decoded:
    raise AssertionError("to locate ids, no picture is opened")


def source(*ids: str) -> Source:
    nothing = (b"",) * len(ids)
    samples = Samples(ids, np.zeros(len(ids), np.int64), nothing, nothing, lambda index: no_picture())
    return Source(("cat", "dog"), samples, samples, find_path(ids, ("cat", "dog")))


def entries(*ids: str) -> list[Entry]:
    return [Entry(Path("forget/a.txt"), number, sample_id) for number, sample_id in enumerate(ids, start=1)]


def test_what_is_not_in_the_source_is_gone_only_if_it_was_ever_known() -> None:
    found, gone = locate(entries("cat/3.png", "cat/99.png"), source(*PICTURES), {"cat/99.png"}.__contains__)
    assert (found, gone) == (frozenset({3}), tuple(entries("", "cat/99.png")[1:]))
    found, gone = locate(entries("bird/1.png"), source(*PICTURES), {"bird/1.png"}.__contains__)  # a class that is gone
    assert (found, [entry.sample_id for entry in gone]) == (frozenset(), ["bird/1.png"])


def test_an_unknown_id_is_named_with_file_line_text_and_suggestion() -> None:
    with pytest.raises(ForgetListError) as caught:
        locate(entries("cat/3.png", "cat/3.jpg", "cat/99.png"), source(*PICTURES), frozenset[str]().__contains__)
    first, second, third, advice = str(caught.value).splitlines()
    assert first == "nothing was changed; these lines name no training sample"
    assert second.startswith("  forget/a.txt:2: 'cat/3.jpg': no training sample has this id")
    assert second.endswith("did you mean 'cat/3.png'?")
    assert third.startswith("  forget/a.txt:3: 'cat/99.png': ")
    assert "sisa forget add --gone ID" in advice


def test_of_very_many_unknown_ids_the_first_are_named_and_the_rest_counted() -> None:
    with pytest.raises(ForgetListError) as caught:
        locate(entries(*(f"cat/x{n}.png" for n in range(1000))), source(*PICTURES), frozenset[str]().__contains__)
    assert "… and 980 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 23
