"""Which sentence of a completion counts, tried on numbers, letters and words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.grade import grade
from orca2_gen.records import Problem

CHOICES = ("red", "green", "blue", "grey")
VALUES = {
    "numeric": ("12", "13"),
    "multiple_choice": ("B", "C"),
    "exact": ("Tofis", "Lamon"),
    "span": ("Denver Broncos", "New York Jets"),
}
CORRECTIONS = (
    "Answer: {old}, no wait, {new}",
    "Answer: {old}. Wait, {new}",
    "Answer: {old}. Wait, actually it is {new}.",
    "Answer: {old}. Actually, it should be {new}.",
    "Answer: {old}, I mean {new}",
    "Answer: {old}, or rather {new}",
    "Answer: {old} (correction: {new})",
    "Answer: {old}\nWait, the answer is {new}.",
    "Answer: {old}\n\nOn second thought, it is {new}.",
    "\\boxed{{{old}}}. Hold on, it is {new}.",
    "The answer is {old}. Wait, no, the answer is {new}.",
    "<answer>{old}</answer>\nSorry, it is {new}.",
    "Answer: {old}, no wait, {old}. Hmm, wait, it is {new}.",
    "{old}, no wait, {new}",
)
CONFIRMATIONS = (
    "Answer: {new}\nWait, let me check. Yes, that is correct.",
    "Answer: {new}\n\nLet me double check: it is right.",
    "Answer: {new}\nThe answer to a similar question was {old}",
    "Answer: {new}\nIn the other case the answer would be {old}",
    "The answer is {new}.\nThe answer to the last question was {old}.",
    "\\boxed{{{new}}}\nThe answer was {old} in the example",
    "Answer: {old}\nThis is wrong.\nAnswer: {new}",
)


def outcome(answer_type: str, target: str, text: str) -> str:
    problem = Problem(
        problem_id="t/test/0",
        task="t",
        question="Which?",
        target=target,
        answer_type=answer_type,
        choices=CHOICES if answer_type == "multiple_choice" else (),
    )
    return grade(problem, text, "stop").outcome


@pytest.mark.parametrize("answer_type", VALUES)
@pytest.mark.parametrize("text", CORRECTIONS + CONFIRMATIONS)
def test_the_value_that_stands_in_the_end_is_the_answer(answer_type: str, text: str) -> None:
    old, new = VALUES[answer_type]
    said = text.format(old=old, new=new)
    assert outcome(answer_type, new, said) == "correct"
    assert outcome(answer_type, old, said) == "incorrect"


@given(
    old=st.integers(-(10**6), 10**6),
    new=st.integers(-(10**6), 10**6),
    text=st.sampled_from(CORRECTIONS + CONFIRMATIONS),
)
def test_a_corrected_number_is_correct_and_the_one_taken_back_is_not(
    old: int, new: int, text: str
) -> None:
    said = text.format(old=old, new=new)
    assert outcome("numeric", str(new), said) == "correct"
    if old != new:
        assert outcome("numeric", str(old), said) == "incorrect"


@pytest.mark.parametrize("answer_type", ["numeric", "multiple_choice"])
@pytest.mark.parametrize(
    "text",
    [
        "Answer: {old}\nWait, that is wrong.",
        "Answer: {old}. Wait, {old} or {new}?",
        "Answer: {old}; {new}",
        "Answer: {old} or {new}",
        "Answer: {old} (or {new})",
        "\\boxed{{{old}}} or \\boxed{{{new}}}",
    ],
)
def test_an_answer_taken_back_or_stated_twice_is_none(answer_type: str, text: str) -> None:
    old, new = VALUES[answer_type]
    assert outcome(answer_type, old, text.format(old=old, new=new)) == "unparsed"
    assert outcome(answer_type, new, text.format(old=old, new=new)) == "unparsed"


def test_a_sentence_with_one_number_yields_to_a_later_statement() -> None:
    assert outcome("numeric", "5", "Answer: She reads 5 pages.") == "correct"
    text = "Answer: She reads 5 pages a day for a week.\nThe answer is 35."
    assert outcome("numeric", "35", text) == "correct"


@pytest.mark.parametrize(
    "gold",
    ["wait, no", "Hold on, we're going home", "rather late", "Oops. Actually, it is."],
)
@pytest.mark.parametrize("answer_type", ["exact", "span"])
def test_a_gold_that_sounds_like_a_correction_is_correct_for_itself(
    answer_type: str, gold: str
) -> None:
    assert outcome(answer_type, gold, f"Answer: {gold}") == "correct"
