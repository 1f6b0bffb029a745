r"""The answer type that can grade a gold which a source calls mathematics.

    True, \text{No}    yes_no          Tuesday, \text{ellipse}, ACF, 8:49 PM    exact

A published set of formulas holds words too. As formulas they could never be right.
"""

from __future__ import annotations

import re

from orca2_gen.grading.answers import unwrap
from orca2_gen.grading.choices import read_yes_no
from orca2_gen.grading.formulas import named_result, read_formula
from orca2_gen.records import AnswerType

_TIME = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?\s*(?:[ap]\.?\s?m\.?)?", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]{2,12}|\d+[a-z]+\d+\w*")
"""Names of points or choices in a row, and numerals with letters for digits: order counts."""
_SET = re.compile(r"\\(?:text|textrm|textnormal|textbf|mathrm|mbox)\s?\{([^{}]*)\}")
_SET_WORD = re.compile(r"\\text\s?\{\s*(?!or\b|and\b)[A-Za-z]{3,}")
_WORD = re.compile(r"[A-Za-z]{2,}")


def type_of_gold(answer_type: AnswerType, target: str) -> AnswerType:
    """The type itself; for mathematics, the type that a gold in words needs."""
    if answer_type != "mathematics":
        return answer_type
    text = " ".join(_SET.sub(r"\1", unwrap(target).replace("{:}", ":")).split())
    if not text:
        return answer_type
    if _WORD.fullmatch(text) and read_yes_no(text) is not None:
        return "yes_no"
    if named_result(text):
        return answer_type
    if _CODE.fullmatch(text) or (_TIME.fullmatch(text) and not text.replace(":", "").isdigit()):
        return "exact"
    formula = read_formula(target)
    # `2 \text{ hours } 30 \text{ minutes}` keeps words after its unit is taken off.
    return "exact" if formula is None or _SET_WORD.search(formula) else answer_type
