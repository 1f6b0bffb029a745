from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.grading.forced_endings import OPENING, grade_ending, graded_ending
from orca2_gen.grading.grade import grade
from orca2_gen.prompts import asked_answer
from orca2_gen.records import Completion, Problem

GOLDS = {
    "exact": "the blue door",
    "numeric": "12",
    "multiple_choice": "B",
    "yes_no": "yes",
    "list": "ant\nbee\ncat",
    "span": "New York Jets",
    "mathematics": r"\frac{1}{2}",
}
WRONG = {
    "exact": "the red window",
    "numeric": "13",
    "multiple_choice": "A",
    "yes_no": "no",
    "list": "bee, ant, cat",
    "span": "Boston",
    "mathematics": "3",
}
TYPES = sorted(GOLDS)


def problem_of(answer_type: str) -> Problem:
    return Problem(
        problem_id="t/test/0",
        task="t",
        question="Which one?",
        target=GOLDS[answer_type],
        answer_type=answer_type,
        choices=("red", "green") if answer_type == "multiple_choice" else (),
    )


def ending(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(
        problem_id="t/test/0",
        role="student",
        strategy="direct_answer",
        call=1,
        attempt=0,
        text=text,
        finish_reason=finish_reason,
        num_prompt_tokens=9,
        num_cached_tokens=0,
        num_completion_tokens=3,
    )


def outcome(answer_type: str, text: str, finish_reason: str = "stop") -> str | None:
    found = grade_ending(problem_of(answer_type), ending(text, finish_reason))
    return None if found is None else found.outcome


def test_every_type_with_an_answer_sentence_has_an_ending() -> None:
    assert set(TYPES) == set(ANSWER_SENTENCES)
    assert all(f'"{OPENING}"' in sentence for sentence in ANSWER_SENTENCES.values())


@pytest.mark.parametrize("answer_type", TYPES)
@pytest.mark.parametrize("space", [" ", "", "\n", " **"])
def test_an_ending_is_graded_as_the_answer_of_its_type(answer_type: str, space: str) -> None:
    right = asked_answer(GOLDS[answer_type], answer_type)  # type: ignore[arg-type]
    after = "**" if space.endswith("*") else ""
    assert outcome(answer_type, f"{space}{right}{after}") == "correct"
    assert outcome(answer_type, f"{space}{WRONG[answer_type]}{after}") == "incorrect"


@pytest.mark.parametrize("answer_type", TYPES)
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_what_follows_the_line_of_the_answer_changes_nothing(
    answer_type: str, finish_reason: str
) -> None:
    right = asked_answer(GOLDS[answer_type], answer_type)  # type: ignore[arg-type]
    more = f"\n\nQuestion: Which one?\nAnswer: {WRONG[answer_type]}\n\nQues"
    assert outcome(answer_type, f" {right}{more}", finish_reason) == "correct"


@pytest.mark.parametrize("answer_type", ["exact", "list", "span", "mathematics"])
def test_a_line_that_is_cut_short_decides_no_type_that_its_rest_could_change(
    answer_type: str,
) -> None:
    right = asked_answer(GOLDS[answer_type], answer_type)  # type: ignore[arg-type]
    for text in (right, WRONG[answer_type], f"{right} because it"):
        assert outcome(answer_type, f" {text}", "length") is None


@pytest.mark.parametrize(("answer_type", "text"), [("multiple_choice", " B"), ("yes_no", " yes,")])
def test_a_letter_and_yes_or_no_decide_in_a_line_that_is_cut_short(
    answer_type: str, text: str
) -> None:
    assert outcome(answer_type, text, "length") == "correct"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 12 apples are lef", "correct"),
        (" $12 because she sol", "correct"),
        (" 12. The number is th", "correct"),
        (" 13 of them ar", "incorrect"),
        (" 12", None),
        (" 1", None),
        (" 12.", None),
        (" 12 mil", None),
        (" 12,00", None),
        (" 12 +", None),
        (" 12 + 3 apples", None),
        (" 12 x 3", None),
        (" 12 and a ha", None),
        (" 12 or 1", None),
        (" 12 to 1", None),
        (" To find the 12 apples that", None),
        (" 3 x 4 = 12 apples ar", None),
        (" Let us se", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_a_number_decides_in_a_line_that_is_cut_short_if_words_follow_it(
    text: str, expected: str | None
) -> None:
    assert outcome("numeric", text, "length") == expected


_WORDS = ["apples", "dollars", "million", "hundred", "and a half", "%", "percent", "or", "to", "x"]
_WORDS += ["+", "=", "3", "12", "1/2", "because", "of them", "are left.", "per hour", ",", "-", "*"]


@given(
    number=st.sampled_from(["12", "13", "1,200", "0.12", "$12", "-12", "12.5"]),
    words=st.lists(st.sampled_from(_WORDS), max_size=5),
)
def test_no_rest_of_a_line_that_is_cut_short_gives_another_number(
    number: str, words: list[str]
) -> None:
    line = " ".join([f" {number}", *words])
    whole = grade_ending(problem_of("numeric"), ending(line))
    for end in range(len(line)):
        cut = grade_ending(problem_of("numeric"), ending(line[:end], "length"))
        # A second number in it can leave no answer at all, as in any text.
        assert cut is None or whole is None or cut == whole, line[:end]


@given(text=st.text(max_size=60), answer_type=st.sampled_from(TYPES))
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_an_ending_decides_or_says_nothing(finish_reason: str, text: str, answer_type: str) -> None:
    assert outcome(answer_type, text, finish_reason) in ("correct", "incorrect", None)


@given(text=st.text("Answer: 12no wait,so\n", max_size=30))
def test_an_ending_that_finished_on_one_line_is_graded_as_its_whole_text(text: str) -> None:
    problem = problem_of("numeric")
    if "\n" in text:
        return
    found = grade(problem, OPENING + text, "stop")
    whole = found if found.outcome in ("correct", "incorrect") else None
    assert grade_ending(problem, ending(text)) == whole


@pytest.mark.parametrize("answer_type", TYPES)
def test_a_child_process_gives_the_same_verdict(answer_type: str) -> None:
    problem = problem_of(answer_type)
    for text in (f" {asked_answer(GOLDS[answer_type], answer_type)}", " 3", " what?"):  # type: ignore[arg-type]
        found = asyncio.run(graded_ending(problem, ending(text)))
        assert found == grade_ending(problem, ending(text))


def test_a_gold_of_several_lines_takes_several_lines() -> None:
    problem = dataclasses.replace(problem_of("list"), answer_type="list")
    text = "\n- ant\n- bee\n- cat\n\nThese are"
    found = grade_ending(problem, ending(text, "length"))
    assert found is not None and found.outcome == "correct"
    assert grade_ending(problem, ending("\n- ant\n- bee\n- ca", "length")) is None
