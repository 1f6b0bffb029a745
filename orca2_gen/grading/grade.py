"""One completion -> its verdict: its final answer is found, read as its type and compared.

Rules that are choices:
- An answer that cannot be read as its type (`Answer: unknown` for a number, two letters, yes and
  no) is unparsed, not incorrect: both score 0, but unparsed counts as a cell that was not really
  judged (selection/decision.py). An answer that the grader could not judge is ungraded.
- Any of a problem's gold answers counts.
- A percent sign is a hundredth. `60%` is 0.6, not 60, unless the gold has a percent sign or the
  question asks for a percentage; then `60` and `60%` are both right. Where it asks for a rate (a
  probability, a share, interest) and gold is above 1, `60%` is 60, too.
- Exact is quasi-exact: case, a leading article and the punctuation after letters do not count
  (answers.quasi_normalise); every word, sign and figure does.
- Items of a list are compared in order, as numbers if the gold item is one.
- Spans and summaries score a fraction, and are correct from SPAN_BAR and SUMMARY_BAR up.
- No pattern can judge an open answer: it is ungraded here and judged later (judging.py).
"""

from __future__ import annotations

import asyncio
import functools
from typing import cast

from orca2_gen.grading import formula_equality
from orca2_gen.grading.announcements import Piece
from orca2_gen.grading.answers import MAX_BARE_CHARS, TAIL_CHARS
from orca2_gen.grading.final_answers import Reading, final_answer, holds_correction
from orca2_gen.grading.gold_types import type_of_gold
from orca2_gen.grading.graders import FREE_TYPES, GRADERS, IS_READABLE, SUMMARY_BAR
from orca2_gen.grading.questions import asks_percent, asks_rate
from orca2_gen.grading.text_overlap import rouge_l
from orca2_gen.grading.verdicts import TRUNCATED, UNGRADED, UNPARSED, Gold, Grade, verdict
from orca2_gen.records import AnswerType, Completion, Problem

GRADER_VERSION = 4
"""Raise it with every change that can change a verdict: it is part of the stage keys."""

MAX_SHOWN_CHARS = 300
MAX_MEMO_CHARS = 300
"""Characters of an answer that is remembered; longer ones hardly ever come twice."""


def grade(problem: Problem, text: str, finish_reason: str) -> Grade:
    """The verdict on a completion of the problem; no text makes it raise.

    A completion that did not stop by itself is truncated: a thought cut short is not a wrong
    answer. Mathematics may wait for a child process; `graded` awaits it.
    """
    if finish_reason != "stop":
        return TRUNCATED
    if problem.answer_type == "open":
        return UNGRADED if final_text(text) else UNPARSED
    grades = [_grade_against(gold, text) for gold in _golds_of(problem)]
    return max(grades, key=_by_outcome, default=UNGRADED)


def _grade_against(gold: Gold, text: str) -> Grade:
    if gold.answer_type == "summary":
        return _grade_summary(gold, text)
    return _grade_final_answer(gold, text) or UNPARSED


def _by_outcome(grade: Grade) -> int:
    return ("ungraded", "unparsed", "incorrect", "correct").index(grade.outcome)


def final_text(text: str) -> str:
    """The text after all thinking."""
    return text.rpartition("</think>")[2].strip()


async def graded(problem: Problem, completion: Completion) -> Grade:
    """The verdict; other requests go on while a child process does mathematics."""
    work = functools.partial(grade, problem, completion.text, completion.finish_reason)
    if problem.answer_type != "mathematics":  # a thread costs more than the grading
        return work()
    return await asyncio.get_running_loop().run_in_executor(formula_equality.THREADS, work)


@functools.lru_cache(maxsize=4_096)
def _golds_of(problem: Problem) -> tuple[Gold, ...]:
    """The gold answers that can be read, by the type that grades them: one, but for mathematics."""
    found: dict[str, list[str]] = {}
    for target in (problem.target, *problem.other_targets):
        answer_type = type_of_gold(cast(AnswerType, problem.answer_type), target)
        if answer_type in IS_READABLE and IS_READABLE[answer_type](target):
            found.setdefault(answer_type, []).append(target)
    return tuple(_gold(problem, kind, tuple(targets)) for kind, targets in found.items())


def _gold(problem: Problem, answer_type: str, targets: tuple[str, ...]) -> Gold:
    texts = (*targets, *problem.choices)
    return Gold(
        answer_type=answer_type,
        targets=targets,
        choices=problem.choices,
        asks_percent=asks_percent(problem.question),
        asks_rate=asks_rate(problem.question),
        reading=Reading(
            is_free=answer_type in FREE_TYPES,
            is_closed=answer_type in ("numeric", "multiple_choice"),
            many_lines=answer_type == "list" or "\n" in "".join(targets),
            max_bare_chars=MAX_BARE_CHARS + max(map(len, texts)),
            keeps_lines=any(map(holds_correction, texts)),
        ),
    )


def _grade_final_answer(gold: Gold, text: str) -> Grade | None:
    reading = gold.reading
    tail_chars = TAIL_CHARS - MAX_BARE_CHARS + reading.max_bare_chars
    text = text.rstrip()[-tail_chars:].rpartition("</think>")[2]
    if gold.answer_type == "exact" and text.strip() in gold.targets:
        return verdict(text.strip(), 1.0)  # a gold sentence may announce an answer itself
    return final_answer(text, functools.partial(_grade_piece, gold), reading)


def _grade_piece(gold: Gold, piece: Piece) -> Grade | None:
    if len(piece.text) > MAX_MEMO_CHARS:
        return GRADERS[gold.answer_type](gold, piece)
    return remembered(gold, piece)


@functools.lru_cache(maxsize=65_536)
def remembered(gold: Gold, piece: Piece) -> Grade | None:
    return GRADERS[gold.answer_type](gold, piece)


def _grade_summary(gold: Gold, text: str) -> Grade:
    answer = final_text(text)
    if not answer:
        return UNPARSED
    scores = [s for target in gold.targets if (s := rouge_l(target, answer)) is not None]
    if not scores:
        return UNGRADED
    return verdict(answer[:MAX_SHOWN_CHARS], max(scores), SUMMARY_BAR)
