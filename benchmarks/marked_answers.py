"""The hand-made answers of tests/grading: a file per answer type, an answer per line."""

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
    """What a careful person says."""
    known: str
    """What the grader is known to say; another word than the person's in few rows, which stay."""


def read_marked_answers(answer_type: AnswerType) -> list[HandMade]:
    """The set of an answer type."""
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
