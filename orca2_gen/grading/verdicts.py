"""The records of grading: what a verdict depends on, and the verdict."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from orca2_gen.grading.final_answers import Reading
from orca2_gen.grading.numbers import Number, parse_number
from orca2_gen.records import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """The verdict on one completion."""

    outcome: Outcome
    score: float
    """1.0 if outcome is correct, else 0.0; a fraction for spans and summaries."""
    answer: str
    """The answer as read: number, letter, text or a summary's beginning; empty if none was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gold:
    """The parts of a problem that its verdicts depend on."""

    answer_type: str
    targets: tuple[str, ...]
    """One or more gold answers, each of which can be read as the type."""
    choices: tuple[str, ...] = ()
    asks_percent: bool = False
    asks_rate: bool = False
    reading: Reading = field(compare=False)


UNPARSED = Grade(outcome="unparsed", score=0.0, answer="")
UNGRADED = Grade(outcome="ungraded", score=0.0, answer="")
TRUNCATED = Grade(outcome="truncated", score=0.0, answer="")


def verdict(answer: str, score: float, bar: float = 1.0) -> Grade:
    """The Grade of an answer with a score, correct from the bar up."""
    return Grade(outcome="correct" if score >= bar else "incorrect", score=score, answer=answer)


gold_number = functools.lru_cache(maxsize=65_536)(parse_number)


def is_same(gold: Number | None, number: Number, asks_percent: bool) -> bool:
    """Whether two numbers are the same; a percentage may be asked for in figures."""
    if gold is None:
        return False
    if number.is_percent == gold.is_percent:
        return number.value == gold.value
    if gold.is_percent:
        return number.value == gold.value or number.figure == gold.figure
    return (number.figure if asks_percent else number.value) == gold.value
