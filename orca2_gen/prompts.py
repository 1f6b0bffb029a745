"""A problem's messages under one of the strategies file's texts.

A problem with worked examples shows them before its question:

    Example 1:
    What is 3 + 4?
    Answer: 7

    Example 2:
    What is 10 + 2?
    Answer: 12

    Your question:

An example's answer has the form that the answer sentence (grading/answers.py) asks for, so that
examples show what is asked; without that sentence it is the bare target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from orca2_gen.grading.answers import ANSWER_SENTENCES, split_items
from orca2_gen.grading.choices import read_yes_no, render_choices
from orca2_gen.records import AnswerType, Message, Problem, Shot
from orca2_gen.strategies import Strategies

SHOTS_VERSION = 1
"""Raise it with every change to the text of worked examples: part of the stage keys."""


def user_text(problem: Problem, strategies: Strategies) -> str:
    """The user's text: worked examples if the problem has any, question, options, answer sentence.

    The sentence is there if the strategies file asks for it and the answer type has one.
    """
    parts = [problem.question]
    if problem.examples:
        parts.insert(0, render_shots(problem, answer_sentence=strategies.answer_sentence))
    if problem.choices:
        parts.append(render_choices(problem.choices))
    sentence = ANSWER_SENTENCES.get(cast(AnswerType, problem.answer_type))
    if strategies.answer_sentence and sentence is not None:
        parts.append(sentence)
    return "\n".join(parts)


def prompt_messages(system: str, user: str) -> tuple[Message, ...]:
    """System and user message; an empty system message is left out."""
    turns = (Message(role="system", content=system), Message(role="user", content=user))
    return turns if system else turns[1:]


def conversation_roles(strategies: Strategies) -> frozenset[tuple[str, ...]]:
    """The roles of every conversation that a run may have: prompts, further calls, training rows.

    A system message is left out where a text of the strategies file is empty.
    """
    num_calls = 1 + max(map(len, strategies.further_calls.values()), default=0)
    asked = [("user", *("assistant", "user") * further) for further in range(num_calls)]
    texts = (strategies.cautious_message, *strategies.every_instruction.values())
    return frozenset(
        ("system", *roles) if text else roles for text in texts for roles in (*asked, _ROW)
    )


_ROW = ("user", "assistant")


def render_shots(problem: Problem, *, answer_sentence: bool) -> str:
    """The text before the question of a problem with examples.

    `answer_sentence` says whether user messages end with one, if the answer type has one.
    """
    is_asked = answer_sentence and problem.answer_type in ANSWER_SENTENCES
    shown = [
        f"Example {number}:\n{_render_shot(shot, problem.answer_type, is_asked)}\n"
        for number, shot in enumerate(problem.examples, start=1)
    ]
    return "\n".join([*shown, "Your question:"])


def _render_shot(shot: Shot, answer_type: str, is_asked: bool) -> str:
    parts = [shot.question]
    if shot.choices:
        parts.append(render_choices(shot.choices))
    answer = shot.target
    if is_asked:
        answer = f"Answer: {asked_answer(shot.target, cast(AnswerType, answer_type))}"
    return "\n".join([*parts, answer])


def asked_answer(target: str, answer_type: AnswerType) -> str:
    """A gold answer in the one line that the answer sentence of its type asks for."""
    if answer_type == "yes_no":
        return "yes" if read_yes_no(target, by_right=True) else "no"
    if answer_type == "list":
        return _joined(split_items(target))
    if answer_type == "span":
        return _joined(target.split("\n"))
    return " ".join(target.split())


def _joined(items: Sequence[str]) -> str:
    lines = [" ".join(item.split()) for item in items]
    # A comma inside an item would split it.
    return ("; " if any("," in line for line in lines) and len(lines) > 1 else ", ").join(lines)
