"""One formula against its gold ones: as numbers, texts or words, and else by a child process."""

from __future__ import annotations

import functools

from orca2_gen.grading import formula_equality
from orca2_gen.grading.announcements import Piece
from orca2_gen.grading.formulas import (
    DIVERGENT,
    INFINITE,
    named_result,
    numeral,
    read_announced,
    read_formula,
    squeeze,
)
from orca2_gen.grading.numbers import parse_number
from orca2_gen.grading.units import without_letter_unit
from orca2_gen.grading.verdicts import Gold, Grade, gold_number, is_same, verdict

gold_formula = functools.lru_cache(maxsize=65_536)(read_formula)
_squeeze_gold = functools.lru_cache(maxsize=65_536)(squeeze)


def grade_mathematics(gold: Gold, piece: Piece) -> Grade | None:
    """The Grade of a piece; None if it states no formula. It may wait for a child process."""
    read = read_announced if piece.is_binding and not piece.is_bare else read_formula
    answer = read(piece.text[: formula_equality.MAX_FORMULA_CHARS + 1])
    if answer is None:
        return None
    golds = tuple(filter(None, map(gold_formula, gold.targets)))
    answer = without_letter_unit(answer, golds)
    number = parse_number(answer)
    numbers = list(map(gold_number, golds))
    if number is not None and any(is_same(g, number, gold.asks_percent) for g in numbers):
        return verdict(answer, 1.0)
    if squeeze(answer) in map(_squeeze_gold, golds):
        return verdict(answer, 1.0)
    if number is not None and None not in numbers:
        return verdict(answer, 0.0)
    if named_result(answer) in (INFINITE, DIVERGENT) or {INFINITE, DIVERGENT} & set(golds):
        return verdict(answer, 0.0)
    if numerals := list(filter(None, map(numeral, golds))):
        digits, base = numeral(answer) or (answer.lower(), "")
        if digits.isalnum():  # the question names the base, so an answer need not
            return verdict(answer, float(any(digits == d and base in (b, "") for d, b in numerals)))
    outcome = formula_equality.compare(golds, answer)
    if outcome == "unparsed":
        return None
    return Grade(outcome=outcome, score=float(outcome == "correct"), answer=answer)
