"""The mapping from columns of foreign rows to fields of plain rows (jsonl.py).

    columns = { question = ["passage", "question"], answer_index = "label", choices = "endings" }

A value names a column, a path into one (`choices.text`) or several columns: `question` joins their
texts with blank lines, `choices` makes them a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orca2_gen.grading.choices import LETTERS
from orca2_gen.tasks.statements import BadRowError, Row, describe

FIELDS = ("question", "answer", "answer_index", "choices", "id", "category", "sub_category")
"""Fields of a plain row; `answer_index` replaces `answer` and counts the choices from 0."""
_MANY = ("question", "choices")

Columns = Mapping[str, str | Sequence[str]]


def check_columns(columns: Columns) -> None:
    """Refuses a mapping with an unknown field, or with several columns where one is expected."""
    for name, column in columns.items():
        if name not in FIELDS:
            raise ValueError(f"columns: unknown field {name!r}; expected {', '.join(FIELDS)}")
        if not isinstance(column, str) and name not in _MANY:
            raise ValueError(
                f"columns.{name} names several columns, expected one; only "
                f"{' and '.join(_MANY)} take several"
            )
    if "answer" in columns and "answer_index" in columns:
        raise ValueError("columns maps both answer and answer_index; leave one out")


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
        if isinstance(column, str):
            value = _look_up(row, column)
        else:
            found = [_look_up(row, part) for part in column]
            value = found if name == "choices" else _joined(found)
        # A null id is refused and an absent one replaced, so absent stays absent.
        if name != "id" or value is not None:
            plain[name] = value
    if "answer_index" in plain:
        plain["answer"] = _letter(plain.pop("answer_index"))
    return plain


def missing_column(row: Row, columns: Columns) -> str:
    """The first column that the mapping names and the row lacks, for a message; "" if none."""
    for name, column in columns.items():
        for part in [column] if isinstance(column, str) else column:
            if part not in row and part.split(".")[0] not in row:
                return f"columns.{name} names {part!a}"
    return ""


def _look_up(row: Row, column: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _joined(values: Sequence[Any]) -> Any:
    """The texts that are present, with a blank line between them."""
    if any(value is not None and not isinstance(value, str) for value in values):
        return values
    return "\n\n".join(value.strip() for value in values if value and value.strip())


def _letter(index: Any) -> str:
    if not isinstance(index, str) or not index.isascii() or not index.isdigit() or len(index) > 2:
        raise BadRowError("bad_answer", f"expected an index of a choice, found {describe(index)}")
    if int(index) >= len(LETTERS):
        raise BadRowError("bad_answer", f"expected an index below {len(LETTERS)}, found {index}")
    return LETTERS[int(index)]
