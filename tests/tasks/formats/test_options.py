"""Options with printed letters become plain texts in the order of the letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.choices import LETTERS
from orca2_gen.tasks.formats.options import resolve_letter, resolve_printed, strip_letters
from orca2_gen.tasks.statements import BadRowError

LETTERED = [
    (["(A)red", "(B) blue"], ("red", "blue")),
    (["A)2 m", "B)3 m"], ("2 m", "3 m")),
    (["A. red", "B. blue"], ("red", "blue")),
    (["(A)red", "(C)green", "(B)blue"], ("red", "blue", "green")),
    (["A red", "B blue"], ("red", "blue")),
    (["A? A red one", "(B)blue"], ("A red one", "blue")),
    (["A red one", "(B)blue", "(C)green"], ("red one", "blue", "green")),
    (["a red one", "(B)blue", "(C)green"], ("a red one", "blue", "green")),
    (["A red one", "blue"], ("A red one", "blue")),
    (["A.5 m", "B.7 m"], ("5 m", "7 m")),
    (["A ) 125", "B ) 75"], ("125", "75")),
    (["A).084%", "B)4.67%"], (".084%", "4.67%")),
    (["A\uff0eF", "C\uff0eL", "(B) G", "(D) M"], ("F", "G", "L", "M")),
    (["\uff08\uff21\uff09red", "\uff08\uff22\uff09blue"], ("red", "blue")),
    (["\uff21\uff0e 2", "\uff22\uff0e 3"], ("2", "3")),
    (["A\uff1ared", "B\uff1ablue"], ("red", "blue")),
    (["A\u3001red", "B\u3001blue"], ("red", "blue")),
    (["A.E, F", "B.G", "C.H"], ("E, F", "G", "H")),
    (["[A] red", "[B] blue"], ("red", "blue")),
    (["(a) red", "(b) blue"], ("red", "blue")),
    (["Option A: red", "Option B: blue"], ("red", "blue")),
    (["A - Rome", "B - Oslo"], ("Rome", "Oslo")),
    (["(A)A)59", "(B)B)69"], ("59", "69")),
    (["(A)A\uff0ered", "(B)B\uff0eblue"], ("red", "blue")),
    (["red", "blue"], ("red", "blue")),
]


@pytest.mark.parametrize(("options", "texts"), LETTERED)
def test_letters_are_stripped_where_they_are_surely_letters(
    options: list[str], texts: tuple[str, ...]
) -> None:
    assert strip_letters(options) == texts


SPEAK_OF_LETTERS = [
    ["A and B", "B and C", "C and A"],
    ["A is guilty", "B is innocent"],
    ["A, B", "B, C"],
    ["A\u3001B", "B\u3001C"],
    ["A - B", "B - A"],
    ["A:B", "B:C"],
    ["A > B", "B > A"],
    ["A/B", "B/C"],
    ["A minor", "B minor", "C minor"],
    ["A-flat", "B-flat"],
    ["A.D.", "B.C."],
    ["A.B. Ng", "B.C. Li"],
    ["A", "B"],
]


@pytest.mark.parametrize("options", SPEAK_OF_LETTERS)
def test_texts_that_speak_of_letters_stay_whole(options: list[str]) -> None:
    assert strip_letters(options) == tuple(options)
    lettered = [f"({letter}){text}" for letter, text in zip(LETTERS, options, strict=False)]
    assert strip_letters(lettered) == tuple(options)


@pytest.mark.parametrize(
    "options",
    [
        ["(A)x", "(A)y"],
        ["(B)x", "y"],
        ["(A)x", "(C)y"],
        ["(A)", "(B)y"],
        ["(A)x", "(C)y", "z"],
        ["A F", "C L", "(B) G", "(D) M"],
    ],
)
def test_letters_that_contradict_their_places_are_refused(options: list[str]) -> None:
    with pytest.raises(BadRowError, match="bad_choices"):
        strip_letters(options)


MARKS = ["({})", "({}) ", "{}) ", "{} ) ", "{}. ", "{}: ", "{}\uff0e", "\uff08{}\uff09", "[{}]"]


@given(
    st.lists(st.text("xyz ", min_size=1).filter(str.strip), min_size=2, max_size=26),
    st.lists(st.sampled_from(MARKS), min_size=26, max_size=26),
    st.booleans(),
    st.data(),
)
def test_whatever_order_and_signs_lettered_options_have_the_letter_finds_its_text(
    texts: list[str], marks: list[str], is_wide: bool, data: st.DataObject
) -> None:
    letters = [chr(ord(x) + 0xFEE0) for x in LETTERS] if is_wide else list(LETTERS)
    lettered = [
        mark.format(letter) + text
        for letter, text, mark in zip(letters, texts, marks, strict=False)
    ]
    shuffled = data.draw(st.permutations(lettered))
    assert strip_letters(shuffled) == tuple(text.strip() for text in texts)


@pytest.mark.parametrize(
    "answer", ["B", "b", "(B)", " B. ", "\uff22", "\uff08B\uff09", "[B]", "blue", "Blue."]
)
def test_an_answer_is_a_letter_or_an_options_text(answer: str) -> None:
    assert resolve_letter(answer, ["red", "blue"], "answer") == "B"


def test_a_printed_letter_is_the_answer_whatever_the_options_say() -> None:
    assert resolve_printed("A", ["B", "A"], "label") == "A"
    for label in ("C", "B", "AB", "", "red"):
        with pytest.raises(BadRowError, match="bad_answer"):
            resolve_printed(label, ["red"], "label")
