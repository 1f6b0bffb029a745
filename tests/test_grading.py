"""Hand-made answers with known verdicts, and properties of the three graders.

Sets: `tests/grading/<answer type>.jsonl`, one answer per line, with the outcome it must get.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading import ANSWER_SENTENCES, LETTERS, grade, render_choices
from orca2_gen.records import Problem

SETS = Path(__file__).parent / "grading"
ANSWER_TYPES = ("exact", "numeric", "multiple_choice")


def make_problem(
    answer_type: str, target: str, choices: tuple[str, ...] = (), question: str = "How many?"
) -> Problem:
    return Problem(
        problem_id="t/test/0",
        task="t",
        question=question,
        target=target,
        answer_type=answer_type,
        choices=choices,
    )


def outcome(answer_type: str, target: str, text: str, choices: tuple[str, ...] = ()) -> str:
    return grade(make_problem(answer_type, target, choices), text, "stop").outcome


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
def test_every_hand_made_answer_gets_its_verdict(answer_type: str) -> None:
    rows = [json.loads(row) for row in (SETS / f"{answer_type}.jsonl").read_text().splitlines()]
    assert len(rows) >= 40
    differing, num_right, num_missed, num_taken = [], 0, 0, 0
    for row in rows:
        choices = tuple(row.get("choices", ()))
        problem = make_problem(answer_type, row["target"], choices, row["question"])
        verdict = grade(problem, row["text"], row["finish_reason"])
        assert verdict.score == (1.0 if verdict.outcome == "correct" else 0.0)
        assert bool(verdict.answer) == (verdict.outcome in ("correct", "incorrect"))
        is_right = row["outcome"] == "correct"
        num_right += is_right
        num_missed += is_right and verdict.outcome != "correct"
        num_taken += not is_right and verdict.outcome == "correct"
        if verdict.outcome != row["outcome"]:
            differing.append((row["target"], row["text"], row["outcome"], verdict))
    num_wrong = len(rows) - num_right
    print(
        f"{answer_type}: {len(rows)} answers; "
        f"false negatives {num_missed}/{num_right} = {num_missed / num_right:.1%}, "
        f"false positives {num_taken}/{num_wrong} = {num_taken / num_wrong:.1%}"
    )
    assert not differing, "\n".join(map(ascii, differing))
