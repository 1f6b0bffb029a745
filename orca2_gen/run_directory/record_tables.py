"""Records <-> Arrow tables: the schema of a record class, and rows in both directions."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa

R = TypeVar("R")

_ROWS_PER_PART = 1024


@functools.cache
def arrow_schema(record: Any) -> pa.Schema:
    """The Arrow schema of a record class, one column per field, none nullable."""
    hints = typing.get_type_hints(record)
    return pa.schema(
        [pa.field(f.name, _arrow_type(hints[f.name]), False) for f in dataclasses.fields(record)]
    )


def _arrow_type(hint: Any) -> pa.DataType:
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(arrow_schema(typing.cast(type, hint))))
    if typing.get_origin(hint) is tuple:
        item, ellipsis = typing.get_args(hint)
        assert ellipsis is Ellipsis
        return pa.list_(pa.field("item", _arrow_type(item), False))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[hint]


def to_table(records: Sequence[Any], record: type) -> pa.Table:
    """The records as a table of `arrow_schema(record)`."""
    schema = arrow_schema(record)
    columns = [
        pa.array([_plain(getattr(r, name)) for r in records], type=schema.field(name).type)
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(typing.cast(Any, value))
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return [dataclasses.asdict(item) for item in value]
    return value


def from_table(table: pa.Table, record: type[R]) -> list[R]:
    """The table's rows as records."""
    build = _builder(record)  # type: ignore[arg-type]
    # In parts, since a row takes several times as much as a dict than as a record.
    parts = table.to_batches(max_chunksize=_ROWS_PER_PART)
    return [build(row) for part in parts for row in part.to_pylist()]


@functools.cache
def _builder(record: Any) -> Callable[[dict[str, Any]], Any]:
    """A function from a row's dict to the record, with nested records and tuples rebuilt."""
    rebuild: dict[str, Callable[[Any], Any]] = {}
    for name, hint in typing.get_type_hints(record).items():
        if dataclasses.is_dataclass(hint):
            rebuild[name] = _builder(typing.cast(type, hint))
        elif typing.get_origin(hint) is tuple:
            item = typing.get_args(hint)[0]
            rebuild[name] = _tuple_of(_builder(item)) if dataclasses.is_dataclass(item) else tuple  # type: ignore[arg-type]

    def build(row: dict[str, Any]) -> Any:
        return record(
            **{key: rebuild[key](value) if key in rebuild else value for key, value in row.items()}
        )

    return build


def _tuple_of(build: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda values: tuple(build(value) for value in values)


def check_schema(schema: pa.Schema, record: type[Any]) -> None:
    """Checks that rows of this schema can be read as records.

    Each column must be a field of the record, and each field without a column must have a default,
    in nested records too.

    Raises:
        ValueError: they cannot; the message continues one that names the file.
    """
    fault = _column_fault(pa.struct(list(schema)), record)
    if fault:
        raise ValueError(f"{fault}, so it holds no rows of {record.__name__}")


def column_with_nulls(table: pa.Table) -> str:
    """The first column that holds a null, at any depth; empty if none does: records have none."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if any(map(_has_null, column.chunks)):
            return str(name)
    return ""


def _has_null(array: pa.Array) -> bool:
    if len(array) == 0:
        return False  # Arrow checks no offsets of an empty list, and aborts where they are wrong
    if array.null_count:
        return True
    if pa.types.is_struct(array.type):
        return any(map(_has_null, array.flatten()))
    return pa.types.is_list(array.type) and _has_null(array.flatten())


def _column_fault(found: pa.StructType, record: Any) -> str:
    """The fault that keeps rows of this type from being records; empty if there is none."""
    hints = typing.get_type_hints(record)
    fields = {field.name: field for field in dataclasses.fields(record)}
    columns = {column.name: column for column in found}
    for name in sorted(columns.keys() - fields.keys()):
        return f"has a column {name!r}"
    for name, field in fields.items():
        if name not in columns:
            if field.default is dataclasses.MISSING:
                return f"lacks the column {name!r}"
            continue
        hint, type_ = hints[name], columns[name].type
        if typing.get_origin(hint) is tuple and pa.types.is_list(type_):
            hint, type_ = typing.get_args(hint)[0], type_.value_type
        if dataclasses.is_dataclass(hint) and pa.types.is_struct(type_):
            if fault := _column_fault(type_, hint):
                return f"{fault} in {name!r}"
        elif type_ != _arrow_type(hint):
            return f"has {name!r} as {columns[name].type}"
    return ""
