"""Options with printed letters become plain texts in the order of the letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.choices import LETTERS
from orca2_gen.tasks.formats.options import resolve_letter, strip_letters
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
    (["A.5 m", "B.7 m"], ("A.5 m", "B.7 m")),
    (["red", "blue"], ("red", "blue")),
]


@pytest.mark.parametrize(("options", "texts"), LETTERED)
def test_letters_are_stripped_where_they_are_surely_letters(
    options: list[str], texts: tuple[str, ...]
) -> None:
    assert strip_letters(options) == texts


@pytest.mark.parametrize(
    "options",
    [["(A)x", "(A)y"], ["(B)x", "y"], ["(A)x", "(C)y"], ["(A)", "(B)y"], ["(A)x", "(C)y", "z"]],
)
def test_letters_that_contradict_their_places_are_refused(options: list[str]) -> None:
    with pytest.raises(BadRowError, match="bad_choices"):
        strip_letters(options)


@given(st.lists(st.text("xyz ", min_size=1).filter(str.strip), min_size=2, max_size=26), st.data())
def test_whatever_order_lettered_options_stand_in_the_letter_finds_its_text(
    texts: list[str], data: st.DataObject
) -> None:
    lettered = [f"({letter}){text}" for letter, text in zip(LETTERS, texts, strict=False)]
    shuffled = data.draw(st.permutations(lettered))
    assert strip_letters(shuffled) == tuple(text.strip() for text in texts)


@pytest.mark.parametrize("answer", ["B", "b", "(B)", " B. ", "blue", "Blue."])
def test_an_answer_is_a_letter_or_an_options_text(answer: str) -> None:
    assert resolve_letter(answer, ["red", "blue"], "answer") == "B"
