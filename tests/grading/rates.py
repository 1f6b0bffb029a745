"""The rate at which each grader is wrong about the hand-made answers beside this file.

A row's `outcome` is a careful person's verdict; `graded`, if present, is the one that the grader is
known to give instead. Such rows stay: they are the rates that `make test` prints at its end.
"""

from __future__ import annotations

import functools

from benchmarks.marked_answers import HandMade, read_marked_answers
from orca2_gen.grading.grade import grade
from orca2_gen.grading.verdicts import Grade
from orca2_gen.records import AnswerType
from orca2_gen.tasks.formats import CLOSED

ANSWER_TYPES: tuple[AnswerType, ...] = CLOSED

measured: list[AnswerType] = []
"""The answer types whose rates the summary prints."""


@functools.cache
def graded_set(answer_type: AnswerType) -> tuple[tuple[HandMade, Grade], ...]:
    """The set of an answer type, each answer with the verdict it gets."""
    measured.append(answer_type)
    return tuple(
        (row, grade(row.problem, row.text, row.finish_reason))
        for row in read_marked_answers(answer_type)
    )


def rates_line(answer_type: AnswerType) -> str:
    """What `make test` prints of an answer type."""
    rows = graded_set(answer_type)
    right = [found.outcome for row, found in rows if row.outcome == "correct"]
    wrong = [found.outcome for row, found in rows if row.outcome != "correct"]
    num_missed, num_taken = len(right) - right.count("correct"), wrong.count("correct")
    return (
        f"{answer_type}: {len(rows)} answers; "
        f"false negatives {num_missed}/{len(right)} = {num_missed / len(right):.1%}, "
        f"false positives {num_taken}/{len(wrong)} = {num_taken / len(wrong):.1%}"
    )
