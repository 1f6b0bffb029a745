"""The sizes of rows once they are Python objects, computed before they are.

A dictionary, a view, a run or a list view lets many rows share one long text: 13 kB of Arrow data
can be 250 GB of rows. Only lengths and offsets are read here, so that no value is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_VALUE_BYTES = 8
"""Counted for every value beside its text, so that a list of nulls has a size."""
_MOST = 2.0**40
"""A size is cut to this, so that sums over nested lists stay finite. Floats hold them, since the
sums can exceed an integer's range; the error of a difference stays below a megabyte."""
_VIEW = np.dtype([("length", "<i4"), ("rest", "V12")])

Sizes = np.ndarray[tuple[int], np.dtype[np.float64]]


def row_sizes(batch: pa.RecordBatch) -> Sizes:
    """The bytes of every row: of all texts in it, and some for each value."""
    total = np.zeros(batch.num_rows)
    for column in batch.columns:
        total += _sizes(column)
    return total


def is_plain(kind: pa.DataType) -> bool:
    """Whether the bytes of the buffers are those of the rows: nothing is shared or left out."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_text(kind.value_type)
    if types.is_struct(kind):
        return all(is_plain(kind.field(i).type) for i in range(kind.num_fields))
    return _is_text(kind) or bool(types.is_primitive(kind))


def viewed_bytes(array: Any) -> int:
    """The bytes of all texts in the array that are views into other bytes, each view counted.

    Arrow's validation reads the bytes of every view, so that this comes first.
    """
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        return int(_view_lengths(array).sum())
    return sum(viewed_bytes(child) for child in _children(array))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    found = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_kind(kind) for is_kind in found)


def _children(array: Any) -> Iterator[Any]:
    kind, types = array.type, pa.types
    if isinstance(array, pa.ExtensionArray):
        yield array.storage
    elif types.is_dictionary(kind):
        yield array.dictionary
    elif types.is_struct(kind) or types.is_union(kind):
        yield from (array.field(i) for i in range(kind.num_fields))
    elif types.is_run_end_encoded(kind) or types.is_nested(kind):
        yield array.values


def _view_lengths(array: Any) -> Sizes:
    _, views, *_ = array.buffers()
    if views is None:
        return np.zeros(len(array))
    found = np.frombuffer(views, _VIEW, count=array.offset + len(array))["length"]
    lengths: Sizes = np.maximum(found[array.offset :], 0).astype(float)
    return lengths


def _sizes(array: Any) -> Sizes:
    return cast(Sizes, np.minimum(_text_sizes(array) + _VALUE_BYTES, _MOST))


def _text_sizes(array: Any) -> Sizes:
    kind, types = array.type, pa.types
    if isinstance(array, pa.ExtensionArray):
        return _sizes(array.storage)
    if _is_text(kind):
        lengths = pc.fill_null(pc.binary_length(array), 0)
        sizes: Sizes = lengths.to_numpy(zero_copy_only=False).astype(float)
        return sizes
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return _view_lengths(array)
    if types.is_dictionary(kind):
        taken = pc.fill_null(array.indices, 0).to_numpy(zero_copy_only=False)
        of_entry = _sizes(array.dictionary)
        return of_entry[taken.astype(np.int64)] if len(of_entry) else np.zeros(len(array))
    if types.is_run_end_encoded(kind):
        places = np.arange(array.offset, array.offset + len(array))
        ends = array.run_ends.to_numpy(zero_copy_only=False)
        return _sizes(array.values)[np.searchsorted(ends, places, side="right")]
    if types.is_struct(kind):
        return _sum_of(array, [_sizes(child) for child in _children(array)])
    if types.is_union(kind):
        return _union_sizes(array)
    if types.is_nested(kind):
        return _list_sizes(array)
    # A fixed width: numbers, times, decimals, fixed-size binary.
    width = 0 if types.is_null(kind) else kind.bit_width / 8
    return np.full(len(array), width, float)


def _sum_of(array: Any, parts: list[Sizes]) -> Sizes:
    return sum(parts, np.zeros(len(array)))


def _union_sizes(array: Any) -> Sizes:
    """The bytes of every value at most: those of the longest one of a dense union's children."""
    parts = [_sizes(child) for child in _children(array)]
    if array.type.mode == "sparse":
        return _sum_of(array, parts)
    return np.full(len(array), max((part.max(initial=0) for part in parts), default=0))


def _list_sizes(array: Any) -> Sizes:
    types, kind = pa.types, array.type
    ends = np.concatenate(([0.0], np.cumsum(_sizes(array.values))))
    if types.is_fixed_size_list(kind):
        starts = (array.offset + np.arange(len(array))) * kind.list_size
        return cast(Sizes, ends[starts + kind.list_size] - ends[starts])
    offsets = array.offsets.to_numpy(zero_copy_only=False)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        lengths = array.sizes.to_numpy(zero_copy_only=False)
        return cast(Sizes, ends[offsets + lengths] - ends[offsets])
    return cast(Sizes, ends[offsets[1:]] - ends[offsets[:-1]])
