"""What a Parquet file may ask for, whatever its footer says."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca2_gen.tasks.columnar import read_columnar
from orca2_gen.tasks.files import TaskFile
from tests.tasks.reading import long_texts, read_bounded, shared


@pytest.mark.parametrize(
    ("column", "options", "says"),
    [
        (lambda: shared(100_000_000, 2_000), {}, "a dictionary of column 'question' unpacks from"),
        (lambda: shared(60_000_000, 2_000), {}, "copy of what they share"),
        (
            lambda: shared(60_000_000, 2_000),
            {"store_schema": False},
            "copy of what they share",
        ),
        (lambda: shared(60_000_000, 9), {"store_schema": False}, "{'too_long': 9}"),
        (
            lambda: long_texts(300_000_000, 1),
            {"use_dictionary": False},
            "a page of column 'question' unpacks from",
        ),
        (lambda: long_texts(100_000_000, 1), {"use_dictionary": False}, "{'too_long': 1}"),
        (lambda: pa.nulls(50_000_000, pa.string()), {}, "rows and values in"),
        (lambda: pa.nulls(50_000_000), {}, "rows and values in"),
        (
            lambda: pa.ListArray.from_arrays([0, 500], long_texts(1_000_000, 500)),
            {},
            "a row of column 'question.list.element' would be 50",
        ),
        (
            lambda: long_texts(1_000_000, 300),
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
            "{'row': 300}",
        ),
        (
            lambda: pa.ListArray.from_arrays([0, 500], long_texts(1_000_000, 500)),
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
            "a row of column 'question.list.element' would be 50",
        ),
        (
            lambda: pa.array([b"x" * 10_000_000] + [None] * 39, pa.binary(10_000_000)),
            {},
            "a row group unpacks from a file of",
        ),
    ],
)
def test_a_small_parquet_file_takes_little_memory_whatever_it_claims(
    tmp_path: Path, column: Callable[[], pa.Array], options: dict[str, Any], says: str
) -> None:
    table = pa.table({"question": column()})
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, compression="zstd", **options)
    del table
    said = read_bounded(path)
    assert says in said
    if "{'row'" not in said and "{'too_long'" not in said:
        assert f"task file {path}: " in said


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_long_rows_are_read_from_pages_and_dictionaries_of_every_kind(
    tmp_path: Path, codec: str, version: str, use_dictionary: bool
) -> None:
    rng = random.Random(0)
    texts = [rng.randbytes(150_000).hex() for _ in range(20)]
    path = tmp_path / "rows.parquet"
    table = pa.table({"question": texts, "choices": [["a", "b" * 300_000, text] for text in texts]})
    pq.write_table(
        table,
        path,
        compression=codec,
        data_page_version=version,
        use_dictionary=use_dictionary,
        row_group_size=7,
    )
    file = TaskFile(path=path, name=path.name, is_alone=True)
    assert [row.row for row in read_columnar(file, [])] == table.to_pylist()
