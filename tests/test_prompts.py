from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.grading.grade import grade
from orca2_gen.prompts import asked_answer, prompt_messages, render_shots, user_text
from orca2_gen.records import AnswerType, Problem, Shot
from orca2_gen.strategies import Strategies


def problem_with(answer_type: str, *examples: Shot, choices: tuple[str, ...] = ()) -> Problem:
    return Problem(
        problem_id="t/train/0",
        task="t",
        question="What is 4 + 5?",
        target="9",
        answer_type=answer_type,
        choices=choices,
        examples=examples,
    )


def test_examples_stand_before_the_question_in_the_form_that_is_asked_for(
    strategies: Strategies,
) -> None:
    problem = problem_with(
        "numeric",
        Shot(question="What is 3 + 4?", target="7"),
        Shot(question="What is 10 + 2?", target="12"),
    )
    assert user_text(problem, strategies) == (
        "Example 1:\nWhat is 3 + 4?\nAnswer: 7\n\n"
        "Example 2:\nWhat is 10 + 2?\nAnswer: 12\n\n"
        "Your question:\nWhat is 4 + 5?\n" + ANSWER_SENTENCES["numeric"]
    )


def test_examples_of_a_choice_show_their_own_options_and_the_letter(strategies: Strategies) -> None:
    shot = Shot(question="Which is a bird?", target="B", choices=("ox", "wren"))
    problem = problem_with("multiple_choice", shot, choices=("red", "blue"))
    text = user_text(problem, strategies)
    assert "Which is a bird?\nA) ox\nB) wren\nAnswer: B\n" in text
    assert text.index("wren") < text.index("A) red")


def test_without_the_answer_sentence_an_example_closes_with_its_bare_target(
    strategies: Strategies,
) -> None:
    plain = dataclasses.replace(strategies, answer_sentence=False)
    problem = problem_with("yes_no", Shot(question="Is ice cold?", target="true"))
    assert "Is ice cold?\ntrue\n\nYour question:" in user_text(problem, plain)
    assert "Is ice cold?\nAnswer: yes\n\n" in user_text(problem, strategies)
    summary = problem_with("summary", Shot(question="Sum up: a storm came.", target="A storm."))
    for either in (plain, strategies):
        assert "Sum up: a storm came.\nA storm.\n\nYour question:" in user_text(summary, either)


def test_a_zero_shot_problem_says_no_more_than_its_question(strategies: Strategies) -> None:
    text = user_text(problem_with("numeric"), strategies)
    assert text == "What is 4 + 5?\n" + ANSWER_SENTENCES["numeric"]


words = st.text(st.sampled_from("abcxyz"), min_size=2, max_size=6)
phrases = st.lists(words, min_size=1, max_size=3).map(" ".join)
TARGETS: dict[AnswerType, st.SearchStrategy[str]] = {
    "exact": st.lists(phrases, min_size=1, max_size=3).map("\n".join),
    "numeric": st.integers(-(10**9), 10**9).map("{:,}".format),
    "multiple_choice": st.sampled_from("AB"),
    "yes_no": st.sampled_from(["yes", "no", "True", "false", "Correct", "incorrect"]),
    "list": st.one_of(
        st.lists(phrases, min_size=2, max_size=5).map(", ".join),
        st.lists(phrases | st.tuples(words, words).map(", ".join), min_size=2, max_size=5).map(
            "\n".join
        ),
    ),
    "span": st.lists(phrases, min_size=1, max_size=3, unique=True).map("\n".join),
}


@pytest.mark.parametrize("answer_type", TARGETS)
@given(data=st.data())
def test_what_an_example_shows_would_be_graded_correct(
    answer_type: AnswerType, data: st.DataObject
) -> None:
    target = data.draw(TARGETS[answer_type])
    choices = ("ox", "wren") if answer_type == "multiple_choice" else ()
    problem = dataclasses.replace(problem_with(answer_type), target=target, choices=choices)
    shown = asked_answer(target, answer_type)
    assert "\n" not in shown
    assert grade(problem, f"Answer: {shown}", "stop").outcome == "correct"


@given(num=st.integers(1, 16))
def test_every_example_is_numbered_once_and_in_order(num: int) -> None:
    shots = [Shot(question=f"Which is number {n}?", target=str(n)) for n in range(num)]
    text = render_shots(problem_with("exact", *shots), answer_sentence=True)
    places = [
        text.index(f"Example {n + 1}:\nWhich is number {n}?\nAnswer: {n}\n") for n in range(num)
    ]
    assert places == sorted(places)
    assert text.count("Example ") == num and text.endswith("\n\nYour question:")


def test_user_text_holds_question_options_and_the_answer_sentence(strategies: Strategies) -> None:
    problem = Problem(
        problem_id="t/train/0",
        task="t",
        question="Which?",
        target="A",
        answer_type="multiple_choice",
        choices=("wind", "{{ moon }}"),
    )
    sentence = ANSWER_SENTENCES["multiple_choice"]
    assert user_text(problem, strategies) == f"Which?\nA) wind\nB) {{{{ moon }}}}\n{sentence}"


def test_a_summary_is_asked_for_by_its_question_alone(strategies: Strategies) -> None:
    problem = Problem(
        problem_id="t/train/0",
        task="t",
        question="Summarise: a storm came.",
        target="A storm.",
        answer_type="summary",
    )
    assert user_text(problem, strategies) == "Summarise: a storm came."


def test_an_empty_system_message_is_no_message() -> None:
    assert [m.role for m in prompt_messages("", "u")] == ["user"]
    assert [m.role for m in prompt_messages("s", "u")] == ["system", "user"]
