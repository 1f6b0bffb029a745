from __future__ import annotations

import pytest

from orca2_gen.grading.answers import unwrap
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


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("**B** (Paris)", "B"),
        ("Paris (B)", "B"),
        ("Paris - B", "B"),
        ("dog (B)", None),
        ("B \u2705", "B"),
        ("\u2705 B", "B"),
        ("B \u274c", None),
        ("(\\text{B})", "B"),
        ("\\textbf{(B)}\\ Paris", "B"),
        ("B. A is wrong because it barks.", "B"),
        ("B. A dog is no city.", "B"),
        ("B. A and C are wrong.", "B"),
        ("B. C is also correct.", None),
        ("B is wrong", None),
        ("B (or C)", None),
        ("it must be option (B).", "B"),
        ("it is not (B)", None),
        ("not A but B", "B"),
        ("D", None),
        ("(E) Paris", None),
    ],
)
def test_a_letter_is_read_beside_any_text_that_leaves_it_the_only_one(
    text: str, letter: str | None
) -> None:
    assert read_letter(unwrap(text), CHOICES) == letter


@pytest.mark.parametrize(
    ("choices", "text", "letter"),
    [
        (("$10", "$12"), "12", "B"),
        (("$10", "$12"), "12 dollars", "B"),
        (("$10", "$12"), "13", None),
        (("10 km", "12 km"), "12", "B"),
        (("10 km", "12 km"), "12 kg", None),
        (("12 km", "12 miles"), "12", None),
        (("12 km", "12 miles"), "12 miles", "B"),
        (("25%", "50%"), "50", "B"),
        (("25%", "50%"), "0.5", "B"),
        (("\\frac{1}{4}", "\\frac{1}{2}"), "0.5", "B"),
        (("1,000", "2,000"), "2000", "B"),
        (("dog", "3 dogs and 2 cats"), "3", None),
        (("-4", "4"), "A) -4", "A"),
        (("-4", "4"), "A) 4", None),
    ],
)
def test_a_number_names_the_only_option_that_states_it(
    choices: tuple[str, ...], text: str, letter: str | None
) -> None:
    assert read_letter(text, choices) == letter
