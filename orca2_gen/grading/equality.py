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
    from math_verify import verify

    try:
        found = _parsed(answer)
        if not found:
            return "unparsed"
        parsed = [gold for gold in map(_parsed, golds) if gold]
        for gold in parsed:
            # x < 3 is as good an answer as (-oo, 3).
            if verify(
                _as_vector(gold, found),
                _as_vector(found, gold),
                allow_set_relation_comp=True,
                timeout_seconds=None,
                raise_on_error=True,
            ):
                return "correct"
        return "incorrect" if parsed else "ungraded"
    except Exception:  # of any kind: SymPy's own, memory, recursion
        return "ungraded"


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
    return list(
        parse(
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
    )
