"""One completion -> its verdict: the answer is found (answers.py), read as its type and compared.

Rules that are choices:
- An answer that cannot be read as its type (`Answer: unknown` for a number, two letters, yes and
  no) is unparsed, not incorrect: both score 0, but unparsed counts as a cell that was not really
  judged (selection/decision.py). An answer that the grader could not judge is ungraded.
- Any of a problem's gold answers counts.
- A percent sign is a hundredth. `60%` is 0.6, not 60, unless the gold has a percent sign or the
  question asks for a percentage; then `60` and `60%` are both right.
- Exact is quasi-exact: case, a leading article and the punctuation after letters do not count
  (answers.quasi_normalise); every word, sign and figure does.
- Items of a list are compared in order, as numbers if the gold item is one.
- Spans and summaries score a fraction, and are correct from SPAN_BAR and SUMMARY_BAR up.
- No pattern can judge an open answer: it is ungraded here and judged later (judging.py).
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from orca2_gen.grading import formula_equality
from orca2_gen.grading.answers import (
    LINE_MARK,
    MAX_BARE_CHARS,
    TAIL_CHARS,
    Piece,
    find_answers,
    quasi_normalise,
    split_items,
    unwrap,
)
from orca2_gen.grading.choices import read_letter, read_yes_no
from orca2_gen.grading.formulas import (
    DIVERGENT,
    INFINITE,
    named_result,
    numeral,
    read_announced,
    read_formula,
    squeeze,
)
from orca2_gen.grading.gold_types import type_of_gold
from orca2_gen.grading.numbers import Number, parse_number, read_number
from orca2_gen.grading.text_overlap import rouge_l, span_f1
from orca2_gen.grading.units import without_letter_unit
from orca2_gen.records import AnswerType, Completion, Outcome, Problem

GRADER_VERSION = 4
"""Raise it with every change that can change a verdict: it is part of the stage keys."""

SPAN_BAR = 0.8
"""F1 above 2/3, that of two names that share two words of three: New York Jets, New York Giants.
One word too many or too few is still correct if the gold has three."""
SUMMARY_BAR = 0.3
"""ROUGE-L below the 0.35 to 0.4 that good systems reach against one reference on news, so most good
summaries pass. It separates a summary of this text from one of another, as far as words can, and no
more: if the gold is one sentence, small words alone can reach 0.4, and a flipped fact costs little
(tests/grading/summary.jsonl). If that matters, score by the fraction."""

MAX_MEMO_CHARS = 300
"""Characters of an answer that is remembered; longer ones hardly ever come twice."""
MAX_SHOWN_CHARS = 300
_PERCENT_ASKED = re.compile(
    r"\b(?:what|which|how many|the|as an?|in)\s+(?:[a-z]+\s+){0,3}?(?:percent|percentage|%)(?!\w)",
    re.IGNORECASE,
)
_REASON = re.compile(r",?\s+(?:because|since)\b")


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

    answer_type: AnswerType
    targets: tuple[str, ...]
    """One or more gold answers, each of which can be read as the type."""
    choices: tuple[str, ...] = ()
    asks_percent: bool = False


_UNPARSED = Grade(outcome="unparsed", score=0.0, answer="")
_UNGRADED = Grade(outcome="ungraded", score=0.0, answer="")
_TRUNCATED = Grade(outcome="truncated", score=0.0, answer="")


def grade(problem: Problem, text: str, finish_reason: str) -> Grade:
    """The verdict on a completion of the problem; no text makes it raise.

    A completion that did not stop by itself is truncated: a thought cut short is not a wrong
    answer. Mathematics may wait for a child process; `graded` awaits it.
    """
    if finish_reason != "stop":
        return _TRUNCATED
    if problem.answer_type == "open":
        return _UNGRADED if final_text(text) else _UNPARSED
    grades = [_grade_against(gold, text) for gold in _golds_of(problem)]
    return max(grades, key=_by_outcome, default=_UNGRADED)


def _grade_against(gold: Gold, text: str) -> Grade:
    if gold.answer_type == "summary":
        return _grade_summary(gold, text)
    return _grade_last_answer(gold, text) or _UNPARSED


def _by_outcome(grade: Grade) -> int:
    return ("ungraded", "unparsed", "incorrect", "correct").index(grade.outcome)


def final_text(text: str) -> str:
    """The text after all thinking."""
    return text.rpartition("</think>")[2].strip()


async def graded(problem: Problem, completion: Completion) -> Grade:
    """The verdict; other requests go on while a child process does mathematics."""
    work = functools.partial(grade, problem, completion.text, completion.finish_reason)
    if problem.answer_type != "mathematics":  # a thread costs more than the grading
        return work()
    return await asyncio.get_running_loop().run_in_executor(formula_equality.THREADS, work)


@functools.lru_cache(maxsize=4_096)
def _golds_of(problem: Problem) -> tuple[Gold, ...]:
    """The gold answers that can be read, by the type that grades them: one, but for mathematics."""
    found: dict[AnswerType, list[str]] = {}
    for target in (problem.target, *problem.other_targets):
        answer_type = type_of_gold(problem.answer_type, target)
        if answer_type in _IS_READABLE and _IS_READABLE[answer_type](target):
            found.setdefault(answer_type, []).append(target)
    asks_percent = _PERCENT_ASKED.search(problem.question) is not None
    return tuple(
        Gold(
            answer_type=answer_type,
            targets=tuple(targets),
            choices=problem.choices,
            asks_percent=asks_percent,
        )
        for answer_type, targets in found.items()
    )


def _grade_last_answer(gold: Gold, text: str) -> Grade | None:
    longest = max(map(len, gold.targets))
    text = text.rstrip()[-(TAIL_CHARS + longest) :].rpartition("</think>")[2]
    if gold.answer_type == "exact" and text.strip() in gold.targets:
        return _verdict(text.strip(), 1.0)  # a gold sentence may announce an answer itself
    found, is_bare = None, True
    is_list = gold.answer_type == "list" or "\n" in "".join(gold.targets)
    for piece in find_answers(text, many_lines=is_list):
        is_bare = False
        if not piece.text:
            continue
        if piece.is_binding:
            # Any sentence reads as free text, so an announced answer outranks it there.
            found = None if gold.answer_type in _FREE_TYPES else found
            return found or _grade_piece(gold, piece)
        found = found or _grade_piece(gold, piece)
    line = text.strip()
    if is_bare and 0 < len(line) <= MAX_BARE_CHARS + longest:
        lines = line.split("\n")
        if len(lines) == 1 or (is_list and all(map(LINE_MARK.match, filter(str.strip, lines)))):
            return _grade_piece(gold, Piece(text=unwrap(line), is_binding=True, is_bare=True))
    return found


def _grade_piece(gold: Gold, piece: Piece) -> Grade | None:
    if len(piece.text) > MAX_MEMO_CHARS:
        return _GRADERS[gold.answer_type](gold, piece)
    return remembered(gold, piece)


@functools.lru_cache(maxsize=65_536)
def remembered(gold: Gold, piece: Piece) -> Grade | None:
    return _GRADERS[gold.answer_type](gold, piece)


def _verdict(answer: str, score: float, bar: float = 1.0) -> Grade:
    return Grade(outcome="correct" if score >= bar else "incorrect", score=score, answer=answer)


_quasi_normalise_gold = functools.lru_cache(maxsize=65_536)(quasi_normalise)
_gold_items = functools.lru_cache(maxsize=65_536)(split_items)
_gold_number = functools.lru_cache(maxsize=65_536)(parse_number)
_gold_formula = functools.lru_cache(maxsize=65_536)(read_formula)
_squeeze_gold = functools.lru_cache(maxsize=65_536)(squeeze)


def _grade_exact(gold: Gold, piece: Piece) -> Grade | None:
    golds = set(map(_quasi_normalise_gold, gold.targets))
    if not piece.is_binding:
        start = _REASON.split(piece.text, maxsplit=1)[0]
        if quasi_normalise(start) in golds:
            return _verdict(start, 1.0)
    return _verdict(piece.text, float(quasi_normalise(piece.text) in golds))


def _grade_numeric(gold: Gold, piece: Piece) -> Grade | None:
    number = read_number(piece.text, anywhere=not piece.is_bare)
    if number is None:
        return None
    golds = map(_gold_number, gold.targets)
    return _verdict(number.text, float(any(_is_same(g, number, gold.asks_percent) for g in golds)))


def _is_same(gold: Number | None, number: Number, asks_percent: bool) -> bool:
    if gold is None:
        return False
    if number.is_percent == gold.is_percent:
        return number.value == gold.value
    if gold.is_percent:
        return number.value == gold.value or number.figure == gold.figure
    return (number.figure if asks_percent else number.value) == gold.value


def _grade_multiple_choice(gold: Gold, piece: Piece) -> Grade | None:
    letter = read_letter(piece.text, gold.choices)
    return None if letter is None else _verdict(letter, float(letter in gold.targets))


def _grade_yes_no(gold: Gold, piece: Piece) -> Grade | None:
    by_right = any(read_yes_no(target) is None for target in gold.targets)
    is_yes = read_yes_no(piece.text, by_right=by_right)
    if is_yes is None:
        return None
    golds = {read_yes_no(target, by_right=True) for target in gold.targets}
    return _verdict("yes" if is_yes else "no", float(is_yes in golds))


def _grade_list(gold: Gold, piece: Piece) -> Grade | None:
    answers: tuple[str, ...] = ()
    for target in gold.targets:
        golds = _gold_items(target)
        answers = split_items(piece.text, len(golds))
        if len(golds) == 1 < len(answers):
            golds = tuple(target.split())
        if len(golds) == len(answers) and all(map(_is_same_item, golds, answers)):
            return _verdict(", ".join(answers), 1.0)
    return _verdict(", ".join(answers), 0.0) if answers else None


def _is_same_item(gold: str, answer: str) -> bool:
    gold_number = _gold_number(gold)
    if gold_number is not None:
        number = read_number(answer)
        return number is not None and _is_same(gold_number, number, False)
    return quasi_normalise(answer) == _quasi_normalise_gold(gold)


def _grade_span(gold: Gold, piece: Piece) -> Grade | None:
    answer = piece.text if piece.is_binding else _REASON.split(piece.text, maxsplit=1)[0]
    return _verdict(answer, max(span_f1(target, answer) for target in gold.targets), SPAN_BAR)


def _grade_mathematics(gold: Gold, piece: Piece) -> Grade | None:
    read = read_announced if piece.is_binding and not piece.is_bare else read_formula
    answer = read(piece.text[: formula_equality.MAX_FORMULA_CHARS + 1])
    if answer is None:
        return None
    golds = tuple(filter(None, map(_gold_formula, gold.targets)))
    answer = without_letter_unit(answer, golds)
    number = parse_number(answer)
    numbers = list(map(_gold_number, golds))
    if number is not None and any(_is_same(g, number, gold.asks_percent) for g in numbers):
        return _verdict(answer, 1.0)
    if squeeze(answer) in map(_squeeze_gold, golds):
        return _verdict(answer, 1.0)
    if number is not None and None not in numbers:
        return _verdict(answer, 0.0)
    if named_result(answer) in (INFINITE, DIVERGENT) or {INFINITE, DIVERGENT} & set(golds):
        return _verdict(answer, 0.0)
    if numerals := list(filter(None, map(numeral, golds))):
        digits, base = numeral(answer) or (answer.lower(), "")
        if digits.isalnum():  # the question names the base, so an answer need not
            return _verdict(answer, float(any(digits == d and base in (b, "") for d, b in numerals)))
    outcome = formula_equality.compare(golds, answer)
    if outcome == "unparsed":
        return None
    return Grade(outcome=outcome, score=float(outcome == "correct"), answer=answer)


def _grade_summary(gold: Gold, text: str) -> Grade:
    answer = final_text(text)
    if not answer:
        return _UNPARSED
    scores = [s for target in gold.targets if (s := rouge_l(target, answer)) is not None]
    if not scores:
        return _UNGRADED
    return _verdict(answer[:MAX_SHOWN_CHARS], max(scores), SUMMARY_BAR)


_FREE_TYPES = frozenset(["exact", "list", "span", "mathematics"])
_GRADERS: Mapping[str, Callable[[Gold, Piece], Grade | None]] = MappingProxyType(
    {
        "exact": _grade_exact,
        "numeric": _grade_numeric,
        "multiple_choice": _grade_multiple_choice,
        "yes_no": _grade_yes_no,
        "list": _grade_list,
        "span": _grade_span,
        "mathematics": _grade_mathematics,
    }
)
_IS_READABLE: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "exact": lambda target: True,
        "numeric": _gold_number,
        "multiple_choice": lambda target: True,
        "yes_no": lambda target: read_yes_no(target, by_right=True) is not None,
        "list": _gold_items,
        "span": str.strip,
        "mathematics": _gold_formula,
        "summary": str.strip,
    }
)
"""Whether a gold answer can be read as its type."""
