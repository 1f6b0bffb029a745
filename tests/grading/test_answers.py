from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orca2_gen.grading.announcements import find_answers
from orca2_gen.grading.answers import (
    ANSWER_SENTENCES,
    normalise,
    quasi_normalise,
    split_items,
    unwrap,
)
from orca2_gen.records import AnswerType


def test_the_answer_sentences_ask_for_the_line_that_the_reader_reads() -> None:
    assert set(ANSWER_SENTENCES) == {*get_args(AnswerType)} - {"summary", "open"}
    for sentence in ANSWER_SENTENCES.values():
        assert '"Answer:"' in sentence and sentence.isascii() and "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Answer: a\nAnswer: b", ["b", "a"]),
        ("**Answer:** $x$", ["x"]),
        ("Answer: $1$ or $2$", ["$1$ or $2$"]),
        ("Answer: \\text{a} and \\text{b}", ["\\text{a} and \\text{b}"]),
        ("the wrong answer: 3", []),
        ("answering: 3", []),
    ],
)
def test_the_last_marked_piece_comes_first(text: str, pieces: list[str]) -> None:
    assert [piece.text for piece in find_answers(text)] == pieces


@pytest.mark.parametrize("below", ["1. a\n2. b", "- a\n- b", "a\nb", "a) a\nb) b"])
def test_a_list_below_the_mark_is_read_whole_where_it_is_asked_for(below: str) -> None:
    text = f"Answer:\n\n{below}\n\nI hope this helps."
    [piece] = find_answers(text, many_lines=True)
    assert split_items(piece.text) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a, b and c", ("a", "b", "c")),
        ("a, b, and c", ("a", "b", "c")),
        ("a; b, c; d", ("a", "b, c", "d")),
        ("[1,000, 2,000]", ("1,000", "2,000")),
        ("a -> b > c", ("a", "b", "c")),
        ("1. a 2. b", ("a", "b")),
        ("a", ("a",)),
        ("", ()),
        ("[]", ()),
    ],
)
def test_items_are_split_by_one_kind_of_separator(text: str, items: tuple[str, ...]) -> None:
    assert split_items(text) == items


def test_more_separators_are_tried_only_where_too_few_items_came_out() -> None:
    assert split_items("b q c") == ("b q c",)
    assert split_items("b q c", 3) == ("b", "q", "c")
    assert split_items("100,200,300", 3) == ("100", "200", "300")
    assert split_items("beer, fish and chips", 2) == ("beer", "fish and chips")


@given(text=st.text(max_size=40))
@example(text="A.'0")
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = quasi_normalise(text)
    assert quasi_normalise(once) == once or unwrap(once) != once or once != normalise(once)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("the U.S.A.", "usa", True),
        ("jack-o-lantern", "Jack O Lantern", True),
        ("an apple", "apple", True),
        ("a b c", "b c", False),
        ("C++", "C", False),
        ("A-", "A", False),
        ("-5", "5", False),
        ("1.10", "110", False),
        ("12:30", "1230", False),
        ("Alexander the Great", "Alexander Great", False),
    ],
)
def test_only_articles_and_the_punctuation_of_words_do_not_count(
    one: str, other: str, same: bool
) -> None:
    assert (quasi_normalise(one) == quasi_normalise(other)) == same
