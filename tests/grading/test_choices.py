from __future__ import annotations

import pytest

from orca2_gen.grading.choices import read_letter, read_yes_no, render_choices

CHOICES = ("dog", "Paris", "none of these")


def test_choices_are_rendered_one_per_line_after_their_letters() -> None:
    assert render_choices(("dog", "Paris")) == "A) dog\nB) Paris"
    assert render_choices(()) == ""


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(b) Paris", "B"),
        ("paris", "B"),
        ("the dog", "A"),
        ("B) dog", None),
        ("A or B", None),
        ("A) dog B) Paris C) none of these", None),
        ("B. It is not (A).", "B"),
    ],
)
def test_one_letter_is_read_and_two_are_none(text: str, letter: str | None) -> None:
    assert read_letter(text, CHOICES) == letter


@pytest.mark.parametrize(
    ("text", "is_yes"),
    [
        ("Yes, because", True),
        ("no doubt", None),
        ("Yes, no doubt", True),
        ("No. It is true that", False),
        ("not true", False),
        ("the statement isn't false", True),
        ("yes and no", None),
        ("no, but actually yes", None),
        ("no evidence", None),
        ("correct", None),
        ("that statement is correct", True),
    ],
)
def test_yes_and_no_are_read_where_they_are_the_answer(text: str, is_yes: bool | None) -> None:
    assert read_yes_no(text) is is_yes


def test_correct_and_incorrect_count_only_where_gold_is_one_of_them() -> None:
    assert read_yes_no("incorrect", by_right=True) is False
    assert read_yes_no("incorrect") is None
