from __future__ import annotations

from fractions import Fraction

import pytest

from orca2_gen.grading.number_words import number_words_at, only_word_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("twelve hundred", 1200),
        ("a hundred", 100),
        ("two thousand five", 2005),
        ("one thousand, two hundred", 1200),
        ("half a million", 500_000),
        ("half a dozen eggs", 6),
        ("a dozen", 12),
        ("two dozen", 24),
        ("half an hour", Fraction(1, 2)),
        ("one half", Fraction(1, 2)),
        ("a third", Fraction(1, 3)),
        ("two-thirds", Fraction(2, 3)),
        ("three quarters of a mile", Fraction(3, 4)),
        ("two and a half", Fraction(5, 2)),
        ("three and two thirds", Fraction(11, 3)),
        ("one hundred and two thirds", Fraction(302, 3)),
        ("two and a half million", 2_500_000),
        ("two point zero five", Fraction(205, 100)),
        ("twenty seconds", 20),
        ("one two", None),
        ("five thousand hundred", None),
        ("one million million", None),
        ("twenty-first", None),
        ("twenty second", None),
        ("third", None),
        ("a", None),
        ("and two", None),
        ("none", None),
    ],
)
def test_words_read_by_value_or_not_at_all(text: str, value: Fraction | int | None) -> None:
    found = number_words_at(text)
    assert (None if found is None else found.value) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("there are twelve apples left", 12),
        ("one of them has two hundred", 200),
        ("he owes a hundred dollars", 100),
        ("it is half a million", 500_000),
        ("only one", None),
        ("two here and three there", None),
    ],
)
def test_the_only_number_of_a_sentence_in_words_is_read(text: str, value: int | None) -> None:
    found = only_word_number(text)
    assert (None if found is None else found.value) == value
