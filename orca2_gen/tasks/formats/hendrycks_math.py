"""MATH (hendrycks/math): a tree of one JSON object per problem, in LaTeX.

    algebra/7.json: {"problem": "Find $x$ if $2x=6$.", "level": "Level 1", "type": "Algebra",
                     "solution": "Halving both sides, $x=\\boxed{3}$."}

The gold answer is the content of the solution's last \\boxed{} or \\fbox{}; the solution is
dropped. Exports with one problem per line are read too, with MATH-500's `subject`, `answer` and
`unique_id`.
"""

from __future__ import annotations

from collections.abc import Iterator

from orca2_gen.records import AnswerType
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.rows import DocumentPart
from orca2_gen.tasks.statements import (
    BadRowError,
    Row,
    Statement,
    describe,
    found_under,
    read_id,
    read_label,
    read_text,
)

_BOXES = ("\\boxed", "\\fbox")


def split_math(document: Row, file: TaskFile) -> Iterator[DocumentPart]:
    """The one row of a file."""
    yield "", None, document


def read_math_row(row: Row, answer_type: AnswerType | None) -> Statement:
    """The row's Statement: mathematics unless another answer type is asked for."""
    solution = read_label(row, "solution")
    target = boxed(solution)
    if target is None and not any(box in solution for box in _BOXES) and row.get("answer"):
        target = read_text(row, "answer", "no_answer").strip()
    if not target:
        found = describe(solution[-40:]) if solution else found_under(row, "solution")
        raise BadRowError("bad_answer", f"expected \\boxed{{...}} in 'solution', found {found}")
    level = read_label(row, "level")
    return Statement(
        question=read_text(row, "problem", "no_question"),
        target=target,
        answer_type=answer_type or "mathematics",
        category=read_label(row, "type", "subject"),
        sub_category=f"Level {level}" if level.isdigit() else level,
        source_id=read_id(row, "unique_id") if row.get("unique_id") else read_id(row),
    )


def boxed(text: str) -> str | None:
    """The content of the last box, or None if there is none or it does not close.

    A box without braces (`$\\boxed 12$`) holds the rest of its formula, as its author meant.
    """
    start = max(text.rfind(box) for box in _BOXES)
    if start < 0:
        return None
    rest = text[start:].removeprefix(_BOXES[0]).removeprefix(_BOXES[1]).lstrip(" \t")
    if not rest.startswith("{"):
        return rest.partition("\n")[0].partition("$")[0].strip().rstrip(".").strip() or None
    depth, position = 0, 0
    while position < len(rest):
        if rest[position] == "\\":
            position += 2  # \{ and \} are printed signs, not braces
            continue
        depth += {"{": 1, "}": -1}.get(rest[position], 0)
        if depth == 0:
            return rest[1:position].strip() or None
        position += 1
    return None
