"""The sizes of rows before they are Python objects."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.tasks.expansion import row_sizes

TEXTS = ["aa", None, "c" * 40, "d"]
LISTS = [["a", "bb"], None, [], ["c" * 9]]
COLUMNS = [
    pa.array(TEXTS),
    pa.array(TEXTS, pa.large_string()),
    pa.array(TEXTS, pa.string_view()),
    pa.array(TEXTS).dictionary_encode(),
    pa.array(LISTS),
    pa.array(LISTS, pa.list_view(pa.string())),
    pa.array(LISTS, pa.list_(pa.string_view())),
    pa.ListArray.from_arrays([0, 2, 2, 3, 4], pa.array(TEXTS).dictionary_encode()),
    pa.array([["a", "bb"]] * 4, pa.list_(pa.string(), 2)),
    pa.array([{"a": "x", "b": 1}, None, {"b": 2}, {}]),
    pa.array([[("k", "v")], None, [], [("k", "w" * 30)]], pa.map_(pa.string(), pa.string())),
    pa.RunEndEncodedArray.from_arrays(pa.array([3, 4], pa.int32()), ["a" * 30, "b"]),
    pa.array([True, None, False, True]),
    pa.nulls(4),
    pa.UnionArray.from_sparse(
        pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(["a" * 20] * 4)]
    ),
    pa.UnionArray.from_dense(
        pa.array([0, 1, 0, 1], pa.int8()),
        pa.array([0, 0, 1, 1], pa.int32()),
        [pa.array([1, 2]), pa.array(["a", "b" * 20])],
    ),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type)[:30])
def test_a_row_is_at_least_as_large_as_its_texts_in_any_slice(column: pa.Array) -> None:
    batch = pa.record_batch({"x": column})
    sizes = row_sizes(batch)
    for size, row in zip(sizes, batch.to_pylist(), strict=True):
        assert size >= len("".join(texts(row["x"])))
    for start in range(5):
        for length in range(5 - start):
            part = batch.slice(start, length)
            assert row_sizes(part).tolist() == sizes[start : start + length].tolist()


def texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for item in value for x in texts(item)] if isinstance(value, (list, tuple)) else []


@given(st.lists(st.lists(st.text(max_size=20), max_size=5), max_size=20))
def test_a_shared_text_counts_in_every_row_that_has_it(rows: list[list[str]]) -> None:
    plain = pa.array(rows, pa.list_(pa.string()))
    shared = pa.ListArray.from_arrays(plain.offsets, plain.values.dictionary_encode())
    more = row_sizes(pa.record_batch({"x": shared})) - row_sizes(pa.record_batch({"x": plain}))
    assert more.tolist() == [8 * len(row) for row in rows]  # its entry in the dictionary


def test_lists_of_lists_of_one_text_have_a_finite_size() -> None:
    column: pa.Array = pa.array(["x" * 1000] * 1000)
    for _ in range(6):
        column = pa.ListViewArray.from_arrays([0] * 1000, [1000] * 1000, column)
    sizes = row_sizes(pa.record_batch({"x": column}))
    assert all(2.0**39 < size < math.inf for size in sizes)
