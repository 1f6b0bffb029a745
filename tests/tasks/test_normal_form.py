"""Two copies of a text have the same tokens, and two other texts do not."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.tasks.normal_form import plain_golds, plain_number, plain_text, tokens
from tests.tasks.copying import problem

WORDS = st.sampled_from(["The", "river", "costs", "caf\u00e9", "x", "+", "na\u00efve", "(a)", "?"])
NUMBERS = st.integers(0, 10_000_000)
TEXTS = st.lists(st.one_of(WORDS, NUMBERS), min_size=1, max_size=20)


def written(parts: list[str | int], rng: random.Random) -> str:
    """The text in one of its many forms."""
    found = [
        number_in(part, rng) if isinstance(part, int) else word_in(part, rng) for part in parts
    ]
    gaps = [rng.choice([" ", "  ", "\n", "\t ", "\u00a0 ", " \u200b"]) for _ in found]
    return "".join(gap + part for gap, part in zip(gaps, found, strict=True))


def number_in(number: int, rng: random.Random) -> str:
    plain = str(number)
    full_width = "".join(chr(ord(digit) + 0xFEE0) for digit in plain)
    forms = [plain, f"{number:,}", f"{number}.0", f"{number:,}.00", full_width]
    return rng.choice([*forms, f"{number:,}".replace(",", "\u202f")])


def word_in(word: str, rng: random.Random) -> str:
    case = rng.choice([str.upper, str.lower, str.title, str])
    form = rng.choice(["NFC", "NFD", "NFKC", "NFKD"])
    return unicodedata.normalize(form, case(word))


@given(TEXTS, st.randoms(use_true_random=False))
def test_case_spaces_number_formats_and_unicode_forms_do_not_hide_a_copy(
    parts: list[str | int], rng: random.Random
) -> None:
    assert plain_text(written(parts, rng)) == plain_text(" ".join(map(str, parts)))


@given(TEXTS, TEXTS)
def test_texts_with_other_words_or_numbers_differ(
    parts: list[str | int], others: list[str | int]
) -> None:
    texts = [" ".join(map(str, each)) for each in (parts, others)]
    plain = ["".join(text.split()).casefold() for text in texts]
    assert (plain_text(texts[0]) == plain_text(texts[1])) <= (plain[0] == plain[1])


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("1,000", "1000"),
        ("1000.0", "1000"),
        ("007", "7"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("0", "0"),
        ("0.0", "0"),
        ("10", "10"),
        ("100", "100"),
        ("1,234,567.80", "1234567.8"),
    ],
)
def test_a_number_has_one_plain_form(written: str, plain: str) -> None:
    assert plain_number(written) == plain
    assert tokens(f"so {written} it is") == ["so", plain, "it", "is"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3-2", ["3", "-", "2"]),
        ("f(1,2)", ["f", "(", "1", ",", "2", ")"]),
        ("5.", ["5", "."]),
        ("1,0000", ["1", ",", "0"]),
        ("\u201cIt\u2019s\u201d \u2212 5\u20137", ['"', "It", "'", "s", '"', "-", "5", "-", "7"]),
        ("\u82b1\u8272 ok", ["\u82b1", "\u8272", "ok"]),
        ("\u0661\u0662", ["12"]),
        ("\u00bd cup", ["1", "/", "2", "cup"]),
    ],
)
def test_every_character_but_white_space_is_part_of_a_token(text: str, found: list[str]) -> None:
    assert tokens(text) == found


def test_gold_answers_agree_by_value_and_choices_by_text() -> None:
    assert plain_golds(problem("t/a", "Q", "$1,000.00")) == plain_golds(problem("t/b", "Q", "1000"))
    first = problem("t/a", "Q", "A", ("Red", "blue"))
    assert plain_golds(first) == plain_golds(problem("t/b", "Q", "B", ("blue", "RED")))
    assert plain_golds(first) != plain_golds(problem("t/b", "Q", "A", ("blue", "RED")))
