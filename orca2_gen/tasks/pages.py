"""The pages of a Parquet column chunk, measured by their headers before anything is unpacked.

The footer of a file states sizes too, but Arrow allocates what the pages state; a footer may lie.
The headers are in Thrift's compact protocol, of which pyarrow and the libraries that we depend on
offer no reader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DELTA_BYTE_ARRAY = 7
# Fields of PageHeader in parquet.thrift, and of the headers in it.
_TYPE, _UNPACKED, _PACKED, _DATA_HEADER, _DATA_V2_HEADER = 1, 2, 3, 5, 8
_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4
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


def chunk_pages(body: pa.Buffer, column: pq.ColumnChunkMetaData) -> list[Page]:
    """The pages that Arrow reads for a column chunk.

    Args:
        body: the whole file.
        column: the place of the chunk.

    Raises:
        pa.ArrowInvalid: the chunk lies outside of the file, or a header is damaged.
    """
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    end = start + column.total_compressed_size
    if not 0 <= start <= end <= body.size:
        raise pa.ArrowInvalid("a column lies outside of the file")
    view = memoryview(body).cast("B")
    pages: list[Page] = []
    seen = 0
    try:
        while seen < column.num_values and start < end:
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
    """None in place of the items."""
    head = view[at]
    at += 1
    length = head >> 4
    if length == 15:
        length, at = _varint(view, at)
    for _ in range(length):
        _, at = _value(view, at, head & 0x0F, depth)
    return None, at


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


_TRUE, _FALSE = 1, 2
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
    12: _inner,
}
