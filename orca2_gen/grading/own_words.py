"""The law of every gold: answered in its own words, it is correct.

A gold that its grader cannot recognise would make every strategy fail on its problem, and choose
none of them for a reason. So readers reject its row.
"""

from __future__ import annotations

import re

from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.grading.grade import grade
from orca2_gen.records import Problem

_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ,'-]{0,150}[A-Za-z0-9])?")
_ANNOUNCES = re.compile(r"answer|option|choice|think", re.IGNORECASE)


def is_gradable(problem: Problem) -> bool:
    """Whether the gold is graded correct as it is, and in the sentence that the prompt asks for.

    A letter is, a text to be judged is not graded here, and plain words for exact matching are too
    common to be tried one by one: a test does.
    """
    kind, gold = problem.answer_type, problem.target
    if kind in ("open", "multiple_choice") or (kind == "exact" and is_plain(gold)):
        return True
    if "\n" in gold and kind in ("span", "list"):  # one per line
        gold = ("; " if "," in gold else ", ").join(gold.split("\n"))
    texts = (gold, f"Answer: {gold}") if kind in ANSWER_SENTENCES else (gold,)
    return all(grade(problem, text, "stop").outcome == "correct" for text in texts)


def is_plain(gold: str) -> bool:
    """Whether a text is words and figures in one line that announce no answer."""
    return _PLAIN.fullmatch(gold) is not None and _ANNOUNCES.search(gold) is None
