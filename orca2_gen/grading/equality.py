r"""Whether two formulas are equal, by math-verify: the part that only a child process runs.

math-verify takes trailing letters such as s, t and m for units. They are variables here, since our
own rule has taken off the units (units.py).
"""

from __future__ import annotations

import functools
import re
from typing import Any

from orca2_gen.grading.latex import NAMES, as_latex, plain_signs
from orca2_gen.records import Outcome

_ALTERNATIVE = re.compile(r",?\s*(?:\\text\s?\{\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor)\s*")
_CONJUNCTION = re.compile(
    r",?\s*(?:\\text\s?\{\s*and\s*\}|(?<![A-Za-z\\])and(?![A-Za-z])|\\land)\s*"
)
_RELATION = re.compile(r"[<>]|!=|\\(?:[lg]eq?|[lg]t|neq?|[lg]eqslant)(?![A-Za-z])")
_INTERVAL = re.compile(r"[\[(].*,.*[\])]")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s?\{?\\circ\}?")
_LETTERS = re.compile(rf"\\text\s?\{{[^{{}}]*\}}|\\[A-Za-z]+|(?:{NAMES})(?![a-z]{{2}})|[A-Za-z]")
_PLUS_MINUS = re.compile(r"\\pm(?![a-z])\s*|\\mp(?![a-z])\s*")
_SMALL = 0.01


def verdict(golds: list[str], answer: str) -> Outcome:
    """The verdict on an answer: `unparsed` if it is no formula, `ungraded` if no gold is one."""
    try:
        outcome = _verdict([_cased(gold) for gold in golds], _cased(answer))
        if outcome != "correct" and any("\\circ" in text for text in (*golds, answer)):
            radians = [_DEGREES.sub(r"(\\frac{\1\\pi}{180})", text) for text in (*golds, answer)]
            return "correct" if _verdict(radians[:-1], radians[-1]) == "correct" else outcome
        return outcome
    except Exception:  # of any kind: SymPy's own, memory, recursion
        return "ungraded"


def _verdict(golds: list[str], answer: str) -> Outcome:
    found = _parsed(answer)
    if not found:
        return "unparsed"
    parsed = [gold for gold in map(_parsed, golds) if gold]
    if any(_are_equal(gold, found) for gold in parsed):
        return "correct"
    return "incorrect" if parsed else "ungraded"


def _cased(formula: str) -> str:
    """The formula with other names for capitals that stand beside their small letters.

    The library reads R and r as one variable.
    """
    letters = {each for each in _LETTERS.findall(plain_signs(formula)) if len(each) == 1}
    both = {each for each in letters if each.isupper() and each.lower() in letters}
    if not both:
        return formula
    return _LETTERS.sub(
        lambda found: f"{found[0]}_{{0}}" if found[0] in both else found[0], plain_signs(formula)
    )


def _are_equal(gold: list[Any], answer: list[Any]) -> bool:
    from math_verify import verify

    if _is_false(answer[0]):
        return False
    gold, answer = _in_order(gold, answer), _in_order(answer, gold)
    pairs = [(_as_vector(gold, answer), _as_vector(answer, gold))]
    if _holds_i(answer):  # a variable to the library
        pairs.append((_with_imaginary(gold), _with_imaginary(answer)))
    return _are_multiples(gold[0], answer[0]) or any(
        verify(
            *pair,
            # x < 3 is as good an answer as (-oo, 3).
            allow_set_relation_comp=True,
            timeout_seconds=None,
            raise_on_error=True,
        )
        for pair in pairs
    )


def _is_false(formula: Any) -> bool:
    """Whether an equation of numbers is wrong by more than rounding: 5 = 6."""
    from sympy import Eq

    if not isinstance(formula, Eq) or formula.free_symbols:
        return False
    left, right = formula.lhs.doit(), formula.rhs.doit()
    if not (left.is_number and right.is_number):
        return False
    return bool(abs(left - right) > _SMALL * max(1, abs(right)))


def _in_order(formula: list[Any], other: list[Any]) -> list[Any]:
    """Values that are named, x = 1 and y = 2, as the tuple of them by name beside a tuple.

    An equation with its variable last is turned round beside a plain value.
    """
    from sympy import Eq, FiniteSet, Interval, Tuple

    one = formula[0]
    if isinstance(one, Eq) and one.lhs.is_number and one.rhs.is_Symbol:
        return [Eq(one.rhs, one.lhs, evaluate=False)]
    parts: Any = getattr(one, "_unsorted_args", None) or getattr(one, "args", ())
    is_named = len(parts) > 1 and all(isinstance(p, Eq) and p.lhs.is_Symbol for p in parts)
    names = {p.lhs.name for p in parts} if is_named else set()
    is_list = isinstance(one, FiniteSet) and len(names) == len(parts) > 1
    if is_list and isinstance(other[0], (Tuple, Interval)):
        return [Tuple(*(p.rhs for p in sorted(parts, key=lambda p: p.lhs.name)))]
    return formula


def _are_multiples(gold: Any, answer: Any) -> bool:
    """Whether two equations differ by a factor only: x = 3z and 2x - 6z = 0."""
    from sympy import Eq, simplify

    if not (isinstance(gold, Eq) and isinstance(answer, Eq)):
        return False
    ratio = simplify((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs))
    return bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)


def _holds_i(formula: list[Any]) -> bool:
    return any(symbol.name == "i" for symbol in formula[0].free_symbols)


def _with_imaginary(formula: list[Any]) -> list[Any]:
    from sympy import I

    return [formula[0].subs({each: I for each in formula[0].free_symbols if each.name == "i"})]


def _real(formula: Any) -> Any:
    """The formula in real variables: the library takes `i` for complex beside a space only."""
    from sympy import Symbol

    strange = {each for each in formula.free_symbols if not each.is_real}
    return formula.xreplace({each: Symbol(each.name, real=True) for each in strange})


def _parsed(formula: str) -> list[Any]:
    """The formula in a list, as math-verify wants it; empty if it is none."""
    text = plain_signs(formula)
    for separator, join in ((_ALTERNATIVE, "union"), (_CONJUNCTION, "intersect")):
        parts = separator.split(text)
        if len(parts) > 1 and all(map(_RELATION.search, parts)):
            return [_joined([_parse(as_latex(part)) for part in parts], join)]
        # Intervals side by side are one set, whichever word stands between them.
        if len(parts) > 1 and all(map(_INTERVAL.fullmatch, parts)) and "\\infty" in as_latex(text):
            return _parse(" \\cup ".join(map(as_latex, parts)))
    latex = as_latex(formula)
    if _PLUS_MINUS.search(latex):
        return _parse(", ".join(dict.fromkeys(_both_signs(latex))))
    found = _parse(latex)
    return found and [_as_set(found[0])]


def _both_signs(latex: str) -> tuple[str, str]:
    """The two formulas that one with a sign of plus and minus stands for."""
    upper = _PLUS_MINUS.sub(lambda found: "+" if found[0].startswith("\\pm") else "-", latex)
    lower = _PLUS_MINUS.sub(lambda found: "-" if found[0].startswith("\\pm") else "+", latex)
    return upper.lstrip("+"), lower.lstrip("+")


def _as_set(formula: Any) -> Any:
    """Relations after commas as the set that they allow: all of them, or any if none allows all."""
    from sympy import And, FiniteSet, Interval, S, Union
    from sympy.core.relational import Relational

    parts: Any = getattr(formula, "_unsorted_args", None) or getattr(formula, "args", ())
    if not isinstance(formula, FiniteSet) or len(parts) < 2:
        return formula
    if all(isinstance(p, Relational) and p.rel_op not in ("==", "!=") for p in parts):
        sets = [And(p).as_set() for p in parts]
        common = functools.reduce(lambda one, other: one.intersect(other), sets)
        return Union(*sets) if common is S.EmptySet else common
    is_open_end = any(
        isinstance(p, Interval) and (p.start.is_infinite or p.end.is_infinite) for p in parts
    )
    if is_open_end and all(isinstance(p, Interval) for p in parts):
        return Union(*parts)
    return formula


def _joined(parts: list[list[Any]], join: str) -> Any:
    """The set of what all relations allow together: a union, or an intersect(ion)."""
    from sympy import And

    sets = []
    for [relation] in parts:
        ends = getattr(relation, "_unsorted_args", (relation,))  # those of 1 < x < 2
        sets.append(And(*ends).as_set())
    return functools.reduce(lambda one, other: getattr(one, join)(other), sets)


def _as_vector(formula: list[Any], other: list[Any]) -> list[Any]:
    """A matrix of one row or column as the tuple of its entries, if the other one is no matrix."""
    from sympy import Interval, MatrixBase, Tuple

    [one] = formula
    if isinstance(one, MatrixBase) and 1 in one.shape and not isinstance(other[0], MatrixBase):
        return [Tuple(*one)]
    if isinstance(one, Interval) and isinstance(other[0], MatrixBase):
        return [Tuple(one.start, one.end)]
    return formula


def _parse(latex: str) -> list[Any]:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # The library's time limit is an alarm; the parent's kill replaces it.
    return [
        _real(each)
        for each in parse(
            f"${latex}$",
            extraction_config=[
                LatexExtractionConfig(
                    normalization_config=NormalizationConfig(
                        units=False, malformed_operators=True, nits=True
                    )
                )
            ],
            fallback_mode="no_fallback",
            parsing_timeout=None,
            raise_on_error=True,
        )
    ]
