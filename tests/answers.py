"""A teacher's answer to change: `dataclasses.replace(ANSWER, text=...)`."""

from __future__ import annotations

from orca2_gen.records import Rationale

ANSWER = Rationale(
    problem_id="sums/train/1",
    task="sums",
    strategy="direct_answer",
    attempt=0,
    system="",
    user="?",
    text="9",
    answer="9",
    num_prompt_tokens=1,
    num_completion_tokens=1,
)
