r"""Whether two formulas are equal, by math-verify: the part that only a child process runs.

math-verify takes trailing letters such as s, t and m for units. They are variables here, since our
own rule has taken off the units (units.py).
"""

from __future__ import annotations

import functools
import re
from typing import Any

from orca2_gen.grading.latex import as_latex, plain_signs
from orca2_gen.records import Outcome

_ALTERNATIVE = re.compile(r",?\s*(?:\\text\s?\{\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\lor)\s*")
_CONJUNCTION = re.compile(
    r",?\s*(?:\\text\s?\{\s*and\s*\}|(?<![A-Za-z\\])and(?![A-Za-z])|\\land)\s*"
)
_RELATION = re.compile(r"[<>]|!=|\\(?:[lg]eq?|[lg]t|neq?|[lg]eqslant)(?![A-Za-z])")


def verdict(golds: list[str], answer: str) -> Outcome:
    """The verdict on an answer: `unparsed` if it is no formula, `ungraded` if no gold is one."""
    try:
        found = _parsed(answer)
        if not found:
            return "unparsed"
        parsed = [gold for gold in map(_parsed, golds) if gold]
        if any(_are_equal(gold, found) for gold in parsed):
            return "correct"
        return "incorrect" if parsed else "ungraded"
    except Exception:  # of any kind: SymPy's own, memory, recursion
        return "ungraded"


def _are_equal(gold: list[Any], answer: list[Any]) -> bool:
    from math_verify import verify

    pairs = [(_as_vector(gold, answer), _as_vector(answer, gold))]
    if _holds_i(gold) and _holds_i(answer):  # a variable to the library
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
    return _parse(as_latex(formula))


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
    from sympy import MatrixBase, Tuple

    [one] = formula
    if isinstance(one, MatrixBase) and 1 in one.shape and not isinstance(other[0], MatrixBase):
        return [Tuple(*one)]
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
