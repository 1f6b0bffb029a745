"""One formula against its gold ones: as numbers, texts or words, and else by a child process."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence

from orca2_gen.grading import formula_equality
from orca2_gen.grading.announcements import Piece
from orca2_gen.grading.formulas import WORDS, numeral, read_announced, read_formula, squeeze
from orca2_gen.grading.latex import plain_signs
from orca2_gen.grading.numbers import Number, parse_number, read_number
from orca2_gen.grading.plain_notation import plain_mathematics
from orca2_gen.grading.units import unit_letters, without_letter_unit
from orca2_gen.grading.verdicts import Gold, Grade, is_same, verdict

gold_formula = functools.lru_cache(maxsize=65_536)(read_formula)
_squeeze_gold = functools.lru_cache(maxsize=65_536)(squeeze)
_RATIO = re.compile(r"\d{1,9}(?: ?(?::|to) ?\d{1,9})+")
_CLOCK = re.compile(r"\d{1,2}:[0-5]\d")
_CHANGED = re.compile(
    r"\b(?:squared|cubed|factorial|halves|thirds?|quarters|fourths|fifths|tenths|plus|minus|times"
    r"|divided|multiplied|choose|root|(?:more|less|fewer|greater) than|at (?:least|most))\b",
    re.IGNORECASE,
)
"""Words that make another value of the number beside them."""
_FUNCTION = re.compile(r"^(?:y|[fgh](?:\^\{-1\})?\s?\(x\))\s*=\s*(?=\S)")


def grade_mathematics(gold: Gold, piece: Piece) -> Grade | None:
    """The Grade of a piece; None if it states no formula. It may wait for a child process."""
    text = piece.text[: formula_equality.MAX_FORMULA_CHARS + 1]
    golds = tuple(filter(None, map(gold_formula, gold.targets)))
    numbers = [
        _number(target, formula) for target, formula in zip(gold.targets, golds, strict=True)
    ]
    answer = (read_formula if piece.is_bare else read_announced)(text)
    if answer is None:
        return _grade_figure(gold, numbers, text, piece.is_bare)
    letters = set().union(*map(unit_letters, gold.targets))
    answer = without_letter_unit(answer, golds, letters)
    number = _number(text, answer)
    if number is not None and any(is_same(g, number, gold.asks_percent) for g in numbers):
        return verdict(answer, 1.0)
    if squeeze(answer) in map(_squeeze_gold, golds):
        return verdict(answer, 1.0)
    if number is not None and None not in numbers:
        return verdict(answer, 0.0)
    if answer in WORDS or WORDS.intersection(golds):
        return verdict(answer, 0.0)
    grade = _grade_ratio(golds, answer) or _grade_numeral(golds, answer)
    return grade or _grade_equality(golds, answer)


def _number(text: str, formula: str) -> Number | None:
    """The number that a text or the formula in it is: `5 million` before its unit is taken off."""
    return parse_number(" ".join(plain_mathematics(text).split())) or parse_number(formula)


def _grade_figure(
    gold: Gold, numbers: Sequence[Number | None], text: str, is_bare: bool
) -> Grade | None:
    """The Grade of a sentence whose golds are numbers: `there are twelve of them`."""
    if None in numbers or _CHANGED.search(text):
        return None
    number = read_number(plain_signs(text), anywhere=not is_bare)
    if number is None:
        return None
    found = any(is_same(each, number, gold.asks_percent) for each in numbers)
    return verdict(number.text, float(found))


def _grade_ratio(golds: Sequence[str], answer: str) -> Grade | None:
    """The Grade of a ratio, whose terms count and not its quotient: 3:5:7 is not 3:7:5."""
    ratios, found = [_ratio(gold) for gold in golds], _ratio(answer)
    if not any(ratios) and (found is None or len(found) == 2):
        return None
    if found is None:
        return (
            None
            if all(ratio is None or len(ratio) == 2 for ratio in ratios)
            else verdict(answer, 0)
        )
    return verdict(answer, float(found in ratios))


def _ratio(formula: str) -> tuple[int, ...] | None:
    """The terms of a ratio in lowest terms, and those of a time of day as they are."""
    if _RATIO.fullmatch(formula) is None:
        return None
    terms = tuple(map(int, re.findall(r"\d+", formula)))
    divisor = 1 if _CLOCK.fullmatch(formula) else math.gcd(*terms) or 1
    return tuple(term // divisor for term in terms)


def _grade_numeral(golds: Sequence[str], answer: str) -> Grade | None:
    """The Grade of a numeral in another base: the question names it, so an answer need not."""
    numerals = list(filter(None, map(numeral, golds)))
    digits, base = numeral(answer) or (answer.lower(), "")
    if not numerals or not digits.isalnum():
        return None
    return verdict(answer, float(any(digits == d and base in (b, "") for d, b in numerals)))


def _grade_equality(golds: Sequence[str], answer: str) -> Grade | None:
    if _FUNCTION.search(answer):  # y = 2x and f(x) = 2x say the same of x
        golds = [_FUNCTION.sub("y = ", gold) for gold in golds]
        answer = _FUNCTION.sub("y = ", answer)
    outcome = formula_equality.compare(tuple(golds), answer)
    if outcome == "unparsed":
        return None
    return Grade(outcome=outcome, score=float(outcome == "correct"), answer=answer)
