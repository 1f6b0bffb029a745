"""The mapping from columns of foreign rows to fields of plain rows (jsonl.py).

    columns = { question = ["passage", "question"], answer_index = "label", choices = "endings" }

A value names a column, a path into one (`choices.text`, `answers.0`) or several columns: `question`
joins their texts with blank lines, `choices` makes them a list. A mapped column that no row has is
an error, and one that a row lacks a Rejection, in files of every kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orca2_gen.mistakes.spelling import hint
from orca2_gen.tasks.choice_labels import split_labels
from orca2_gen.tasks.statements import BadRowError, Row, fields_of, is_gap

OPTIONAL = ("id", "category", "sub_category")
ANSWERS = ("answer", "answer_index", "answer_number")
FIELDS = ("question", *ANSWERS, "choices", "messages", *OPTIONAL)
"""Fields of a plain row; `answer_index` replaces `answer` and counts the choices from 0,
`answer_number` from 1; `messages` is a chat and replaces the question, and the answer if it ends
with a reply."""
_MANY = ("question", "choices")
_REASONS = {
    "question": "no_question",
    "messages": "no_question",
    "answer": "no_answer",
    "answer_index": "no_answer",
    "answer_number": "no_answer",
    "choices": "no_choices",
}
_ABSENT = object()

Columns = Mapping[str, str | Sequence[str]]


def check_columns(columns: Columns) -> None:
    """Refuses a mapping with an unknown field, or with several columns where one is expected.

    Raises:
        ValueError: one line that names the field, for whoever says which task it is.
    """
    for name, column in columns.items():
        if name not in FIELDS:
            raise ValueError(f"unknown field {name[:100]!r}; {hint(name, FIELDS)}")
        if not isinstance(column, str) and name not in _MANY:
            raise ValueError(
                f"{name} names several columns, expected one; only {' and '.join(_MANY)} take "
                "several"
            )
        if not column or not all(column):
            remedy = "give one" if name not in OPTIONAL else "give one, or leave it out"
            raise ValueError(f"{name} names no column; {remedy}")
    for rivals in (ANSWERS, ("question", "messages")):
        if len(both := [name for name in rivals if name in columns]) > 1:
            raise ValueError(f"{both[0]} and {both[1]} are both given; leave one out")


def wanted_columns(columns: Columns) -> frozenset[str]:
    """Every column, or path into one, that the mapping names."""
    return frozenset(
        name
        for column in columns.values()
        for name in ([column] if isinstance(column, str) else column)
    )


def map_columns(row: Row, columns: Columns) -> Row:
    """The plain row: mapped fields and no others; a missing column is None."""
    plain: dict[str, Any] = {}
    for name, column in columns.items():
        if not isinstance(column, str):
            found = [look_up(row, part) for part in column]
            value = _without_gap(found) if name == "choices" else _joined(found)
        elif name == "choices":
            value = _with_labels(row, column)
        else:
            value = look_up(row, column)
        # A null id is refused and an absent one replaced, so absent stays absent.
        if name != "id" or not is_gap(value):
            plain[name] = value
    return plain


def missing_columns(row: Row, columns: Columns) -> list[tuple[str, str]]:
    """Every (field, column) of which the row lacks the column; a null is there."""
    return [
        (name, part)
        for name, column in columns.items()
        for part in ([column] if isinstance(column, str) else column)
        if _find(row, part) is _ABSENT
    ]


def check_present(row: Row, columns: Columns) -> None:
    """Refuses a row that lacks a column it cannot be understood without.

    Without its choices or a part of its question it would ask something else; without a column of
    the OPTIONAL fields it is the same problem.
    """
    for name, column in missing_columns(row, columns):
        if name not in OPTIONAL:
            detail = f"columns.{name} names {column!a}, {fields_of(row)}"
            raise BadRowError(_REASONS[name], detail)


def look_up(row: Row, column: str) -> Any:
    """The value of a column, or at a path into one; None if there is none."""
    value = _find(row, column)
    return None if value is _ABSENT else value


def _find(row: Row, column: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if is_gap(value):
            return None  # what a null would hold is null: not every row has options
        value = _step(value, name)
        if value is _ABSENT:
            break
    return value


def _step(value: Any, name: str) -> Any:
    """The value under a name, at a list's index, or under a name of each object in a list."""
    if isinstance(value, Mapping):
        return value.get(name, _ABSENT)
    if not isinstance(value, list):
        return _ABSENT
    if name.isascii() and name.isdigit():
        return value[int(name)] if len(name) < 10 and int(name) < len(value) else _ABSENT
    if value and all(isinstance(item, Mapping) and name in item for item in value):
        return [item[name] for item in value]
    return _ABSENT


def _with_labels(row: Row, column: str) -> Any:
    """The choices; those under `x.text` with the labels beside them, which their answer names."""
    whole = look_up(row, column.removesuffix(".text"))
    is_part = column.endswith(".text") and column not in row
    return whole if is_part and split_labels(whole)[1] else look_up(row, column)


def _without_gap(values: list[Any]) -> list[Any]:
    """The values up to the last that is filled in: some rows use fewer columns than others."""
    while values and (is_gap(values[-1]) or values[-1] == ""):
        values = values[:-1]
    return values


def _joined(values: Sequence[Any]) -> Any:
    """The texts that are present, with a blank line between them."""
    found = [value for value in values if not is_gap(value)]
    if not all(isinstance(value, str) for value in found):
        return values
    return "\n\n".join(value.strip() for value in found if value.strip())
