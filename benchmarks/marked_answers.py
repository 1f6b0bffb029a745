"""The hand-made answers of tests/grading: one file per answer type, one answer per line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.records import AnswerType, Problem

SETS = Path(__file__).parents[1] / "tests" / "grading"


@dataclass(frozen=True, kw_only=True, slots=True)
class HandMade:
    """One answer with its verdicts."""

    problem: Problem
    text: str
    finish_reason: str
    outcome: str
    """A careful person's verdict."""
    known: str
    """The verdict that the grader is known to give; it differs in few rows, which stay."""


def read_marked_answers(answer_type: AnswerType) -> list[HandMade]:
    """The answers of an answer type's file."""
    rows = map(json.loads, (SETS / f"{answer_type}.jsonl").read_text().splitlines())
    return [
        HandMade(
            problem=Problem(
                problem_id=f"t/test/{index}",
                task="t",
                question=row["question"],
                target=row["target"],
                other_targets=tuple(row.get("other_targets", ())),
                answer_type=answer_type,
                choices=tuple(row.get("choices", ())),
            ),
            text=row["text"],
            finish_reason=row["finish_reason"],
            outcome=row["outcome"],
            known=row.get("graded", row["outcome"]),
        )
        for index, row in enumerate(rows)
    ]
