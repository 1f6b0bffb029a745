"""One grader per answer type: a piece of text that may be the answer against the gold ones."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from orca2_gen.grading.announcements import Piece
from orca2_gen.grading.answers import quasi_normalise, split_items
from orca2_gen.grading.choices import read_letter, read_yes_no
from orca2_gen.grading.mathematics import gold_formula, grade_mathematics
from orca2_gen.grading.numbers import Number, read_number
from orca2_gen.grading.text_overlap import span_f1
from orca2_gen.grading.verdicts import Gold, Grade, gold_number, is_same, verdict

SPAN_BAR = 0.8
"""F1 above 2/3, that of two names that share two words of three: New York Jets, New York Giants.
One word too many or too few is still correct if the gold has three."""
SUMMARY_BAR = 0.3
"""ROUGE-L below the 0.35 to 0.4 that good systems reach against one reference on news, so most good
summaries pass. It separates a summary of this text from one of another, as far as words can, and no
more: if the gold is one sentence, small words alone can reach 0.4, and a flipped fact costs little
(tests/grading/summary.jsonl). If that matters, score by the fraction."""

_REASON = re.compile(r",?\s+(?:because|since)\b")

_quasi_normalise_gold = functools.lru_cache(maxsize=65_536)(quasi_normalise)
_gold_items = functools.lru_cache(maxsize=65_536)(split_items)


def _grade_exact(gold: Gold, piece: Piece) -> Grade | None:
    golds = set(map(_quasi_normalise_gold, gold.targets))
    if not piece.is_binding:
        start = _REASON.split(piece.text, maxsplit=1)[0]
        if quasi_normalise(start) in golds:
            return verdict(start, 1.0)
    if quasi_normalise(piece.text) in golds:
        return verdict(piece.text, 1.0)
    _, verb, said = piece.text.rpartition(" is ")  # `the day is Monday`
    return verdict(piece.text, float(bool(verb) and quasi_normalise(said) in golds))


def _grade_numeric(gold: Gold, piece: Piece) -> Grade | None:
    number = read_number(piece.text, anywhere=not piece.is_bare)
    if number is None:
        return None
    golds = map(gold_number, gold.targets)
    return verdict(number.text, float(any(_is_asked(gold, g, number) for g in golds)))


def _is_asked(gold: Gold, target: Number | None, number: Number) -> bool:
    """Whether the numbers are the same; where a rate is asked for, 5 may be said as 5%.

    A rate up to 1 is taken at its value: a probability of 0.5 is 50%, not half a percent.
    """
    if is_same(target, number, gold.asks_percent):
        return True
    is_rate = gold.asks_rate and target is not None and target.value > 1
    return is_rate and number.is_percent and is_same(target, number, True)


def _grade_multiple_choice(gold: Gold, piece: Piece) -> Grade | None:
    letter = read_letter(piece.text, gold.choices)
    return None if letter is None else verdict(letter, float(letter in gold.targets))


def _grade_yes_no(gold: Gold, piece: Piece) -> Grade | None:
    by_right = any(read_yes_no(target) is None for target in gold.targets)
    is_yes = read_yes_no(piece.text, by_right=by_right)
    if is_yes is None:
        return None
    golds = {read_yes_no(target, by_right=True) for target in gold.targets}
    return verdict("yes" if is_yes else "no", float(is_yes in golds))


def _grade_list(gold: Gold, piece: Piece) -> Grade | None:
    answers: tuple[str, ...] = ()
    for target in gold.targets:
        golds = _gold_items(target)
        answers = split_items(piece.text, len(golds))
        if len(golds) == 1 < len(answers):
            golds = tuple(target.split())
        if len(golds) == len(answers) and all(map(_is_same_item, golds, answers)):
            return verdict(", ".join(answers), 1.0)
    return verdict(", ".join(answers), 0.0) if answers else None


def _is_same_item(gold: str, answer: str) -> bool:
    wanted = gold_number(gold)
    if wanted is not None:
        number = read_number(answer)
        return number is not None and is_same(wanted, number, False)
    return quasi_normalise(answer) == _quasi_normalise_gold(gold)


def _grade_span(gold: Gold, piece: Piece) -> Grade | None:
    answer = piece.text if piece.is_binding else _REASON.split(piece.text, maxsplit=1)[0]
    return verdict(answer, max(span_f1(target, answer) for target in gold.targets), SPAN_BAR)


FREE_TYPES = frozenset(["exact", "list", "span", "mathematics"])
GRADERS: Mapping[str, Callable[[Gold, Piece], Grade | None]] = MappingProxyType(
    {
        "exact": _grade_exact,
        "numeric": _grade_numeric,
        "multiple_choice": _grade_multiple_choice,
        "yes_no": _grade_yes_no,
        "list": _grade_list,
        "span": _grade_span,
        "mathematics": grade_mathematics,
    }
)
IS_READABLE: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "exact": lambda target: True,
        "numeric": gold_number,
        "multiple_choice": lambda target: True,
        "yes_no": lambda target: read_yes_no(target, by_right=True) is not None,
        "list": _gold_items,
        "span": str.strip,
        "mathematics": gold_formula,
        "summary": str.strip,
    }
)
"""Whether a gold answer can be read as its type."""
