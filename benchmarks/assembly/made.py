"""What a method made of the problems, and what its engines were held for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca2_gen.grading.grade import grade
from orca2_gen.records import Example, Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One engine, or several of one model one after the other, and what was asked of them."""

    seconds: float
    """Seconds from when an engine could generate to the last row of its stage, over all of them."""
    start_seconds: float
    """Seconds from the request of an engine until it could generate, over all of them."""
    num_requests: int
    prompt_tokens: int
    completion_tokens: int

    def __add__(self, other: Held) -> Held:
        return Held(
            seconds=self.seconds + other.seconds,
            start_seconds=self.start_seconds + other.start_seconds,
            num_requests=self.num_requests + other.num_requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The rows of one method, one a problem, and the engines that they took."""

    rows: tuple[Example, ...]
    chosen: Mapping[str, str]
    """Selection group -> its strategy."""
    student: Held
    teacher: Held

    @property
    def engine_seconds(self) -> float:
        return self.student.seconds + self.teacher.seconds

    @property
    def rows_per_engine_second(self) -> float:
        return len(self.rows) / self.engine_seconds


def mean_grade(rows: Sequence[Example], problems: Sequence[Problem]) -> float:
    """The mean score of what the rows teach, graded again here; 0 without rows."""
    by_id = {problem.problem_id: problem for problem in problems}
    scores = [grade(by_id[row.problem_id], row.messages[-1].content, "stop").score for row in rows]
    return sum(scores) / len(scores) if scores else 0.0
