"""A Parquet file -> how many of its rows can be read at once; refused if not even one can.

Arrow unpacks a whole page of every column, and writes each value of a dictionary out as often as
the rows name it. So pages, dictionaries and values are measured first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from orca2_gen.run_directory.unpacking import most_unpacked, most_values
from orca2_gen.tasks.expansion import row_sizes
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.pages import Page, chunk_pages, row_groups

ROWS_PER_BATCH = 256
MAX_BATCH_BYTES = 1024**3
"""Bytes of a row group or record batch, as stated in it; `datasets` writes 1,000 rows a batch."""
MAX_PAGE_BYTES, MAX_DICTIONARY_BYTES, PAGE_BYTES_PER_BYTE = 128 << 20, 64 << 20, 32
"""A page unpacks to so many bytes, or so many times its own, whichever is more. Writers close a
page at 1 MB, but pyarrow looks at its size only after 1,000 rows: 1,000 rows of 1 MB are one page,
or one dictionary. Such text packs 3 to 20 times."""
MOST_HELD_BYTES = 384 << 20
"""Bytes of one column's values in a batch. A dictionary of 1 MB, where most writers stop, stays
below it in 256 rows and needs no second look."""
_AIM_BYTES = 64 << 20
"""Bytes of a usual batch: rows of 1 MB are read 64 at a time."""
_ROWS_PER_LOOK = 65_536

# What stays unbounded is in proportion to the file: time, and memory where a large file is packed
# well. 5 MB may unpack to a row group of 1 GiB; Arrow holds a page about twice while it copies from
# it, and a dictionary that needs a second look about five times (_longest_rows). A header that
# Arrow and pages.py read differently, as no writer makes them, would be measured wrongly.


def rows_at_once(file: TaskFile, parquet: pq.ParquetFile, roots: Collection[str]) -> int:
    """The number of rows of these columns that a batch can hold.

    Raises:
        ValueError: the file would take too much memory, or claims too many values.
        pa.ArrowInvalid: it is damaged.
    """
    metadata = parquet.metadata
    with pa.memory_map(str(file.path)) as source:
        body = source.read_buffer()
    leaves = [
        i
        for i in range(len(parquet.schema))
        if any(f"{parquet.schema.column(i).path}.".startswith(f"{root}.") for root in roots)
    ]
    rows, values, packed = ROWS_PER_BATCH, metadata.num_rows, 0
    for group, found in enumerate(row_groups(body, len(parquet.schema))):
        _check_group(file, found.unpacked)
        unpacked = 0
        for leaf in leaves:
            chunk = found.chunks[leaf]
            column = parquet.schema.column(leaf)
            pages = chunk_pages(body, chunk)
            for page in pages:
                _check_page(file, column.path, page)
            chunk_values = sum(page.values for page in pages)
            values += max(chunk_values, chunk.values)
            packed += chunk.packed
            width = _width(column)
            unpacked += max(sum(page.unpacked for page in pages), chunk_values * width)
            if not width:
                rows = min(rows, _rows_of_text(file, group, column, pages))
        _check_counts(file, values, packed, body.size)
        if unpacked > min(MAX_BATCH_BYTES, most_unpacked(body.size)):
            _refuse(
                file,
                f"a row group unpacks from a file of {body.size} bytes to {unpacked}, expected at "
                f"most {min(MAX_BATCH_BYTES, most_unpacked(body.size))}",
            )
        if unpacked:
            rows = min(rows, max(1, _AIM_BYTES * found.rows // unpacked))
    _check_counts(file, values, packed, body.size)
    return rows


def _check_group(file: TaskFile, num_bytes: int) -> None:
    if num_bytes > MAX_BATCH_BYTES:
        raise ValueError(
            f"task file {file.path}: a row group of {num_bytes} bytes, expected at most "
            f"{MAX_BATCH_BYTES}; write the file again with smaller row groups"
        )


def _check_page(file: TaskFile, name: str, page: Page) -> None:
    word, floor = (
        ("dictionary", MAX_DICTIONARY_BYTES) if page.is_dictionary else ("page", MAX_PAGE_BYTES)
    )
    most = max(floor, PAGE_BYTES_PER_BYTE * page.packed)
    if page.unpacked > most:
        _refuse(
            file,
            f"a {word} of column {name[:100]!a} unpacks from {page.packed} bytes to "
            f"{page.unpacked}, expected at most {most}",
        )


def _check_counts(file: TaskFile, values: int, packed: int, size: int) -> None:
    if values > most_values(size):
        _refuse(
            file,
            f"at least {values} rows and values in {size} bytes, expected at most "
            f"{most_values(size)}",
            "leave out the empty rows",
        )
    if packed > size:
        raise pa.ArrowInvalid("its columns overlap")


def _refuse(file: TaskFile, found: str, advice: str = "leave out the longest rows") -> NoReturn:
    raise ValueError(f"task file {file.path}: {found}; {advice} and write the file again")


def _width(column: pq.ColumnSchema) -> int:
    """The bytes of a value in memory; 0 if each has its own length."""
    if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return max(1, int(column.length))
    return 0 if column.physical_type == "BYTE_ARRAY" else 8


def _rows_of_text(file: TaskFile, group: int, column: pq.ColumnSchema, pages: list[Page]) -> int:
    """The number of rows that a column of texts allows.

    A page of differences (DELTA_BYTE_ARRAY) can repeat its longest text in every value, and is
    refused in lists, where nobody has counted the values of a row.
    """
    is_list = column.max_repetition_level > 0
    prefixed = [page for page in pages if page.is_prefixed]
    values_per_row = max((page.values for page in prefixed), default=0) if is_list else 1
    longest = max((page.unpacked for page in prefixed), default=0) * values_per_row
    dictionary = sum(page.unpacked for page in pages if page.is_dictionary)
    values = sum(page.values for page in pages) if is_list else ROWS_PER_BATCH
    if dictionary * values > MOST_HELD_BYTES:
        longest = max(longest, *_longest_rows(file, group, column.path))
    if longest > MOST_HELD_BYTES:
        _refuse(
            file,
            f"a row of column {column.path[:100]!a} would be {longest} bytes long, expected at "
            f"most {MOST_HELD_BYTES}",
        )
    return max(1, _AIM_BYTES // max(1, longest))


def _longest_rows(file: TaskFile, group: int, path: str) -> Iterator[int]:
    """The bytes of the longest row in each part of a column, whose texts stay in their dictionary.

    The dictionary is copied for each part, so that the parts are large.
    """
    yield 0
    with pq.ParquetFile(file.path, memory_map=True, read_dictionary=[path]) as parquet:
        parts = parquet.iter_batches(
            batch_size=_ROWS_PER_LOOK, row_groups=[group], columns=[path], use_threads=False
        )
        for part in parts:
            part.validate(full=True)
            yield int(row_sizes(part).max(initial=0))
