"""The row groups of a Parquet file and their pages, measured before anything is unpacked.

The footer of a file states sizes too, but Arrow allocates what the pages state; a footer may lie.
Footer and headers are in Thrift's compact protocol, of which pyarrow and the libraries that we
depend on offer no reader. pyarrow's own `RowGroupMetaData.column` ends the process if the footer's
size statistics are damaged: its C++ exception passes a binding that catches none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DELTA_BYTE_ARRAY = 7
# Fields of PageHeader in parquet.thrift, and of the headers in it.
_TYPE, _UNPACKED, _PACKED, _DATA_HEADER, _DATA_V2_HEADER = 1, 2, 3, 5, 8
_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_ROW_GROUPS, _COLUMNS, _GROUP_BYTES, _GROUP_ROWS, _COLUMN = 4, 1, 2, 3, 3
_NUM_VALUES, _CHUNK_PACKED, _DATA_OFFSET, _DICTIONARY_OFFSET = 5, 7, 9, 11
_FOOTER_END = 8  # bytes: the footer's length and the magic
_MAX_HEADER_BYTES = 16 * 1024 * 1024  # Arrow's own limit
_MAX_DEPTH = 16

Fields = dict[int, Any]
Parsed = tuple[Any, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What the header of a page states."""

    unpacked: int
    """Bytes."""
    packed: int
    values: int
    """Values and nulls; 0 in a dictionary."""
    is_dictionary: bool
    is_prefixed: bool
    """Whether a value is stored as its difference from the one before (DELTA_BYTE_ARRAY)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What the footer states of a column in a row group."""

    start: int
    """Where its first page begins in the file."""
    packed: int
    """Bytes of its pages."""
    values: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroup:
    """What the footer states of a row group."""

    unpacked: int
    """Bytes."""
    rows: int
    chunks: tuple[Chunk, ...]
    """One per column of the schema that is no group, in its order."""


def row_groups(body: pa.Buffer, num_columns: int) -> list[RowGroup]:
    """The row groups of a file.

    Args:
        body: the whole file.
        num_columns: columns of its schema that are no groups.

    Raises:
        pa.ArrowInvalid: the footer is damaged.
    """
    view = memoryview(body).cast("B")
    try:
        end = len(view) - _FOOTER_END
        [length] = struct.unpack_from("<I", view, end)
        fields, _ = _struct(view[:end], end - length)
        groups = [_group(found) for found in fields.get(_ROW_GROUPS) or ()]
    except (IndexError, KeyError, TypeError, AttributeError, struct.error):
        raise pa.ArrowInvalid("the footer is damaged") from None
    if any(len(group.chunks) != num_columns for group in groups):
        raise pa.ArrowInvalid("a row group has other columns than the schema")
    return groups


def _group(fields: Fields) -> RowGroup:
    return RowGroup(
        unpacked=fields[_GROUP_BYTES],
        rows=fields[_GROUP_ROWS],
        chunks=tuple(_chunk(column[_COLUMN]) for column in fields[_COLUMNS]),
    )


def _chunk(fields: Fields) -> Chunk:
    start, dictionary = fields[_DATA_OFFSET], fields.get(_DICTIONARY_OFFSET, 0)
    return Chunk(
        start=dictionary if 0 < dictionary < start else start,
        packed=fields[_CHUNK_PACKED],
        values=fields[_NUM_VALUES],
    )


def chunk_pages(body: pa.Buffer, chunk: Chunk) -> list[Page]:
    """The pages that Arrow reads for a column chunk.

    Args:
        body: the whole file.
        chunk: the place of the chunk.

    Raises:
        pa.ArrowInvalid: the chunk lies outside of the file, or a header is damaged.
    """
    start, end = chunk.start, chunk.start + chunk.packed
    if not 0 <= start <= end <= body.size:
        raise pa.ArrowInvalid("a column lies outside of the file")
    view = memoryview(body).cast("B")
    pages: list[Page] = []
    seen = 0
    try:
        while seen < chunk.values and start < end:
            fields, start = _struct(view[: start + _MAX_HEADER_BYTES], start)
            page = _page(fields)
            start += page.packed
            seen += page.values
            pages.append(page)
    except (IndexError, KeyError, TypeError, struct.error):
        raise pa.ArrowInvalid("the header of a page is damaged") from None
    return pages


def _page(fields: Fields) -> Page:
    kind = fields[_TYPE]
    header = fields.get(_DATA_V2_HEADER if kind == _DATA_V2 else _DATA_HEADER, {})
    is_data = kind in (_DATA, _DATA_V2)
    page = Page(
        unpacked=fields[_UNPACKED],
        packed=fields[_PACKED],
        values=header[_VALUES] if is_data else 0,
        is_dictionary=kind == _DICTIONARY,
        is_prefixed=is_data
        and header[_ENCODING_V2 if kind == _DATA_V2 else _ENCODING] == _DELTA_BYTE_ARRAY,
    )
    if min(page.unpacked, page.packed, page.values) < 0:
        raise pa.ArrowInvalid("the header of a page states a negative size")
    return page


def _struct(view: memoryview, at: int, depth: int = 0) -> Parsed:
    """The fields of a struct by number, and the place behind it."""
    if depth > _MAX_DEPTH:
        raise IndexError
    fields: Fields = {}
    number = 0
    while (head := view[at]) != 0:
        at += 1
        kind, step = head & 0x0F, head >> 4
        if step:
            number += step
        else:
            number, at = _integer(view, at)
        if kind in (_TRUE, _FALSE):  # the value is in the type
            fields[number] = kind == _TRUE
        else:
            fields[number], at = _value(view, at, kind, depth)
    return fields, at + 1


def _value(view: memoryview, at: int, kind: int, depth: int) -> Parsed:
    return _READERS[kind](view, at, depth)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _integer(view: memoryview, at: int, _: int = 0) -> tuple[int, int]:
    value, at = _varint(view, at)
    return (value >> 1) ^ -(value & 1), at


def _byte(view: memoryview, at: int, _: int) -> Parsed:
    return view[at], at + 1


def _double(view: memoryview, at: int, _: int) -> Parsed:
    return struct.unpack_from("<d", view, at)[0], at + 8


def _binary(view: memoryview, at: int, _: int) -> Parsed:
    """None in place of the bytes, which may be long: no size is among them."""
    length, at = _varint(view, at)
    if at + length > len(view):
        raise IndexError
    return None, at + length


def _list(view: memoryview, at: int, depth: int) -> Parsed:
    """The items if they are structs, and None in place of any others."""
    head = view[at]
    at += 1
    length, kind = head >> 4, head & 0x0F
    if length == 15:
        length, at = _varint(view, at)
    structs: list[Any] | None = [] if kind == _STRUCT else None
    for _ in range(length):
        item, at = _value(view, at, kind, depth)
        if structs is not None:
            structs.append(item)
    return structs, at


def _map(view: memoryview, at: int, depth: int) -> Parsed:
    length, at = _varint(view, at)
    if length:
        kinds = view[at]
        at += 1
        for _ in range(length):
            _, at = _value(view, at, kinds >> 4, depth)
            _, at = _value(view, at, kinds & 0x0F, depth)
    return None, at


def _inner(view: memoryview, at: int, depth: int) -> Parsed:
    return _struct(view, at, depth + 1)


_TRUE, _FALSE, _STRUCT = 1, 2, 12
_READERS: dict[int, Callable[[memoryview, int, int], Parsed]] = {
    _TRUE: _byte,  # an item of a list has a byte of its own
    _FALSE: _byte,
    3: _byte,
    4: _integer,
    5: _integer,
    6: _integer,
    7: _double,
    8: _binary,
    9: _list,
    10: _list,
    11: _map,
    _STRUCT: _inner,
}
