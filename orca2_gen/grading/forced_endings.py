"""A forced ending -> its verdict: the answer is what stands in the line that was opened for it.

A model that does not stop after its answer (a base model, as a rule) goes on to another question
and its answer, so the first line decides. If nothing can be read from it and the model stopped by
itself, the whole ending is read as any text is. A line that was cut short decides only where the
rest of it could not change the answer: a letter, yes or no, and a number with further words behind
it.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterator

from orca2_gen.grading import formula_equality
from orca2_gen.grading.grade import grade
from orca2_gen.grading.verdicts import Grade
from orca2_gen.records import Completion, Problem

OPENING = "Answer:"
"""The words that the answer sentence asks for. No space follows, since most vocabularies hold the
space as a part of the word that comes after it."""

_ARITHMETIC = re.compile(r"[-+*/^\u00d7\u00f7\u2212]|\bx\b|\b(?:plus|minus|times|over|divided)\b")
_UNFINISHED = re.compile(r"\b(?:and|or|to|point|dot|a|an)\W*\Z", re.IGNORECASE)


async def graded_ending(problem: Problem, ending: Completion) -> Grade | None:
    """`grade_ending`; other requests go on while a child process does mathematics."""
    work = functools.partial(grade_ending, problem, ending)
    if problem.answer_type != "mathematics":
        return work()
    return await asyncio.get_running_loop().run_in_executor(formula_equality.THREADS, work)


def grade_ending(problem: Problem, ending: Completion) -> Grade | None:
    """The verdict on the answer that a forced ending gives; None if it decides nothing."""
    for text in _readings(problem, ending):
        found = grade(problem, f"{OPENING}{text}", "stop")
        if found.outcome in ("correct", "incorrect"):
            return found
    return None


def _readings(problem: Problem, ending: Completion) -> Iterator[str]:
    """The texts behind the opening that may be the answer, the likeliest first."""
    text, is_finished = ending.text, ending.finish_reason == "stop"
    line, is_whole = _first_line(problem, text)
    if is_whole or is_finished or _is_certain(problem, line):
        yield line
    if is_finished:
        yield text


def _first_line(problem: Problem, text: str) -> tuple[str, bool]:
    """The first line that says something, with those before it, and whether another follows it.

    The lines of a list count as one, up to an empty line.
    """
    targets = (problem.target, *problem.other_targets)
    has_lines = problem.answer_type == "list" or any("\n" in target for target in targets)
    start = next((place for place, letter in enumerate(text) if letter.isalnum()), len(text))
    end = text.find("\n\n" if has_lines else "\n", start)
    return (text, False) if end < 0 else (text[:end], True)


def _is_certain(problem: Problem, line: str) -> bool:
    """Whether the rest of a line that was cut short could not change its answer."""
    if problem.answer_type in ("multiple_choice", "yes_no"):
        return True
    if problem.answer_type != "numeric":
        return False
    words, _, _ = line.rstrip().rpartition(" ")  # the last word may be the half of one
    first, second = (grade(problem, f"{OPENING}{each}", "stop").answer for each in (words, line))
    if not first or first != second:
        return False
    stated = re.match(rf"\W*{re.escape(first)}", words)
    rest = words[stated.end() :] if stated else ""
    says_more = any(map(str.isalpha, rest))
    return says_more and not _ARITHMETIC.search(rest) and not _UNFINISHED.search(rest)
