from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.announcements import find_answers

ADJECTIVES = ("", "final ", "closest ", "most accurate ", "most appropriate ", "best possible ")
VERBS = ("is", "must be", "should be", "is therefore", "would be", "has to be", "is most likely")
NOUNS = ("answer", "choice", "option", "answer choice")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("adjective", ADJECTIVES)
@given(noun=st.sampled_from(NOUNS), start=st.sampled_from(["The ", "So the ", "Thus, our "]))
def test_the_answer_by_any_name_and_verb_is_announced(
    adjective: str, verb: str, noun: str, start: str
) -> None:
    [piece] = find_answers(f"It is long.\n{start}{adjective}{noun} {verb} (B).")
    assert (piece.text, piece.is_binding) == ("(B).", False)


@pytest.mark.parametrize(
    "text",
    [
        "The wrong answer is (B)",
        "The first answer was (B)",
        "The student's answer is (B)",
        "A possible answer is (B)",
        "The answer might be (B)",
        "The answer to a similar question was (B)",
        "The answer to the previous part is (B)",
        "The answers are (B)",
        "(B) is not the answer",
        "Which one is the correct answer?",
        "The previous answer: (B)",
        "not an answer: (B)",
    ],
)
def test_what_is_said_of_another_answer_announces_nothing(text: str) -> None:
    assert [piece.text for piece in find_answers(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Answer: 12",
        "Answer is: 12",
        "**Answer**: 12",
        "Answer\uff1a 12",
        "Answer = 12",
        "Answer - 12",
        '{"answer": 12}',
        '{"steps": "5 + 7", "answer": "12", "sure": true}',
        '{"final_answer":12}',
        "{'answer': '12'}",
        '```json\n{\n  "Answer": 12\n}\n```',
        "<answer>12</answer>",
        "<final_answer>\n12\n</final_answer>",
        "\\boxed{12}",
        "\\boxed{\\text{12}}",
    ],
)
def test_a_strong_announcement_binds_in_every_dress(text: str) -> None:
    [piece] = find_answers(f"We add 5 and 7.\n{text}")
    assert (piece.text, piece.is_binding) == ("12", True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("So (B) is the correct answer.", "(B)"),
        ("Therefore, option B is the best choice because it fits.", "option B"),
        ("We add.\n12 is our final answer", "12"),
        ("I think that Paris is the answer.", "Paris"),
    ],
)
def test_the_subject_of_is_the_answer_is_announced(text: str, said: str) -> None:
    [piece] = find_answers(text)
    assert (piece.text, piece.is_binding) == (said, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\\boxed{(2,2)} and \\boxed{(6,2)}", "(2,2) and (6,2)"),
        ("$\\boxed{2}$, $\\boxed{3}$ and $\\boxed{5}$", "2, 3 and 5"),
        ("$x = \\boxed{2}$ or $x = \\boxed{3}$", "2 or 3"),
        ("\\boxed{2}. Thus it is \\boxed{3}", "3"),
        ("\\boxed{2} and then we add 1 to get \\boxed{3}", "3"),
    ],
)
def test_boxes_in_a_row_are_one_announcement(text: str, said: str) -> None:
    assert next(find_answers(text)).text == said
