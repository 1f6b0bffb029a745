"""Parquet files and the Arrow streams of `datasets` -> rows, a few at a time.

Only pyarrow reads them: no data set script runs and nothing is unpickled. Arrow does not check the
data it maps, so every batch is validated before any of its values is read. A batch's rows become
Python objects a few megabytes at a time, since they can be far longer than the batch
(expansion.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orca2_gen.mistakes.spelling import nearest
from orca2_gen.run_directory.unpacking import (
    UnusableArrow,
    batches_unpacked,
    most_unpacked,
    most_values,
)
from orca2_gen.tasks.expansion import Sizes, is_plain, row_sizes, viewed_bytes
from orca2_gen.tasks.files import TaskFile, open_file
from orca2_gen.tasks.parquet_limits import MAX_BATCH_BYTES, ROWS_PER_BATCH, rows_at_once
from orca2_gen.tasks.rows import SourceRow, numbered_row
from orca2_gen.tasks.statements import BadRowError, NumberText, Row

MAX_ROW_BYTES = 16 * 1024 * 1024
"""Bytes of a row in all columns read, pictures among them: more than a line of JSON may have,
since only the texts of the columns named in the task must be short."""
MOST_WORK_BYTES = 4 * 1024**3
"""A file is read as this many bytes of batches and rows, or as many times its own as
`most_unpacked` allows, whichever is more: 1 million rows that share texts of 4 kB. Each batch
counts its dictionaries again, because they are checked or copied again."""

_ARROW_FILE = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError, UnusableArrow)


def read_columnar(file: TaskFile, wanted: Collection[str]) -> Iterator[SourceRow]:
    """The rows of a Parquet file or an Arrow stream, in order.

    Args:
        file: a name that ends in .arrow is a stream, any other is Parquet.
        wanted: columns, or paths into them, that the file must have; empty reads all.

    Raises:
        ValueError: a wanted column is missing, the file would take too much memory or time (a batch
            of more than MAX_BATCH_BYTES, see also `rows_at_once` and MOST_WORK_BYTES), or it is cut
            off or damaged, so that later rows would be missing.
    """
    open_file(file).close()  # Arrow would wait for the writer of a FIFO
    index = 0
    try:
        for batch, sizes, labels in _batches(file, wanted):
            for values in _values(batch, sizes):
                row = values if isinstance(values, BadRowError) else _plain_row(values, labels)
                yield numbered_row(file, index, row)
                index += 1
    except _FAULTS as error:
        raise _fault(file, error, f" after {index} rows") from None


def _values(batch: pa.RecordBatch, sizes: Sizes | None) -> Iterator[Row | BadRowError]:
    """Every row; one of more than MAX_ROW_BYTES as its error."""
    if sizes is None:
        if batch.nbytes <= MAX_ROW_BYTES // 2:  # in a list of empty texts, 4 bytes become 60
            yield from batch.to_pylist()
            return
        sizes = row_sizes(batch)
    start, held = 0, 0.0
    for end, size in enumerate([*sizes.tolist(), math.inf]):
        if held + size > MAX_ROW_BYTES:
            yield from batch.slice(start, end - start).to_pylist()
            start, held = end, 0.0
        if MAX_ROW_BYTES < size < math.inf:
            detail = f"the row has {size:.0f} bytes, expected at most {MAX_ROW_BYTES}"
            yield BadRowError("too_long", detail)
            start = end + 1
        else:
            held += size


def _fault(file: TaskFile, error: Exception, where: str) -> ValueError:
    kind = "Arrow" if file.suffix == ".arrow" else "Parquet"
    first = str(error).partition("\n")[0][:120]
    return ValueError(
        f"task file {file.path}: the {kind} data end or are damaged{where} ({first!a}); fetch the "
        "file again"
    )


def check_ends(file: TaskFile) -> None:
    """Checks the ends of a Parquet file or an Arrow stream, where a cut shows.

    Raises:
        ValueError: it is cut off, or begins as another kind of file.
    """
    try:
        if file.suffix != ".arrow":
            pq.ParquetFile(file.path, memory_map=True).close()
            return
        with file.path.open("rb") as stream:
            if stream.read(len(_ARROW_FILE)) == _ARROW_FILE:
                raise ValueError(
                    f"task file {file.path}: Arrow's file format; expected the stream format, "
                    "which `datasets` writes: save the data set with save_to_disk"
                )
        _check_end(file)
    except _FAULTS as error:
        raise _fault(file, error, "") from None


def _check_end(file: TaskFile) -> None:
    # A stream that is cut between two batches ends early without an error.
    with file.path.open("rb") as stream:
        stream.seek(-min(file.path.stat().st_size, len(_END_OF_STREAM)), 2)
        if stream.read() != _END_OF_STREAM:
            raise pa.ArrowInvalid("the stream has no end mark: it was cut")


Labels = Mapping[str, list[str]]
"""Column -> the names that its numbers stand for (`ClassLabel`)."""


def _batches(
    file: TaskFile, wanted: Collection[str]
) -> Iterator[tuple[pa.RecordBatch, Sizes | None, Labels]]:
    """At most ROWS_PER_BATCH rows at a time, validated; their sizes, None if nbytes tells them."""
    work, most = 0, max(MOST_WORK_BYTES, most_unpacked(file.path.stat().st_size))
    whole = _stream_batches if file.suffix == ".arrow" else _parquet_batches
    for batch, labels in whole(file, wanted):
        work += batch.get_total_buffer_size()
        batch.validate()
        _check_work(file, work + sum(map(viewed_bytes, batch.columns)), most)
        batch.validate(full=True)
        if file.suffix == ".arrow":
            _check_size(file, batch.get_total_buffer_size())  # nbytes would count by offsets
        sizes = None
        if not all(is_plain(field.type) for field in batch.schema):
            sizes = row_sizes(batch)  # once, since it looks at the whole of a dictionary
            work += int(sizes[sizes <= MAX_ROW_BYTES].sum())  # no others are read
            _check_work(file, work, most)
        for start in range(0, batch.num_rows, ROWS_PER_BATCH):
            part = slice(start, start + ROWS_PER_BATCH)
            yield batch[part], None if sizes is None else sizes[part], labels


def _check_work(file: TaskFile, work: int, most: int) -> None:
    if work > most:
        raise ValueError(
            f"task file {file.path}: its rows are more than {most} bytes when each has its own "
            "copy of what they share; leave out the longest rows and write the file again"
        )


def _parquet_batches(
    file: TaskFile, wanted: Collection[str]
) -> Iterator[tuple[pa.RecordBatch, Labels]]:
    with pq.ParquetFile(file.path, memory_map=True) as parquet:
        columns = _roots(file, parquet.schema_arrow, wanted)
        labels = _class_labels(parquet.schema_arrow)
        rows = rows_at_once(file, parquet, columns)
        for batch in parquet.iter_batches(batch_size=rows, columns=columns):
            yield batch, labels


def _stream_batches(
    file: TaskFile, wanted: Collection[str]
) -> Iterator[tuple[pa.RecordBatch, Labels]]:
    size = file.path.stat().st_size
    rows = values = shared = 0
    with pa.memory_map(str(file.path)) as source:
        for found in batches_unpacked(source):  # before anything is unpacked
            _check_size(file, found.bytes)
            rows += found.rows
            values += found.values
            shared += 0 if found.rows else found.bytes
            _check_size(file, max(found.bytes, shared), most_unpacked(size))
    if max(rows, values) > most_values(size):
        raise ValueError(
            f"task file {file.path}: {values} rows and values in {size} bytes, expected at most "
            f"{most_values(size)}; leave out the empty rows and write the file again"
        )
    with pa.memory_map(str(file.path)) as source, pa.ipc.open_stream(source) as reader:
        columns = _roots(file, reader.schema, wanted)
        labels = _class_labels(reader.schema)
        for batch in reader:
            yield batch.select(columns), labels
    _check_end(file)


def _check_size(file: TaskFile, num_bytes: int, most: int = MAX_BATCH_BYTES) -> None:
    if num_bytes > most:
        raise ValueError(
            f"task file {file.path}: a row group of {num_bytes} bytes, expected at most "
            f"{most}; write the file again with smaller row groups"
        )


class MissingColumnError(ValueError):
    """A file has no column of a name that the task's columns give."""

    def __init__(self, column: str, names: Sequence[str], path: Path) -> None:
        near = nearest(column, names)
        meant = f"did you mean {near!r}? " if near else ""
        super().__init__(f"no column {column!r} in {path}; {meant}it has {', '.join(names)[:300]}")
        self.column = column


def _roots(file: TaskFile, schema: pa.Schema, wanted: Collection[str]) -> list[str]:
    """The top-level columns that hold the wanted ones, in the file's order."""
    names = list(schema.names)
    if not wanted:
        return names
    roots = {way if way in names else way.partition(".")[0] for way in wanted}
    if missing := sorted(roots - set(names)):
        raise MissingColumnError(missing[0], names, file.path)
    return [name for name in names if name in roots]


def _class_labels(schema: pa.Schema) -> Labels:
    """The label names that `datasets` keeps beside the schema."""
    try:
        kept = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: feature["names"]
            for name, feature in kept.items()
            if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _plain_row(values: Row, labels: Labels) -> Row | BadRowError:
    try:
        return {
            name: _named(value, labels[name]) if name in labels else _plain(value)
            for name, value in values.items()
        }
    except BadRowError as error:
        return error


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return _plain(value)


def _plain(value: Any) -> Any:
    """The value as JSON would give it: a number is its text."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return value  # a gap in a column of numbers
    if isinstance(value, float) and math.isinf(value):
        raise BadRowError("bad_number", f"{value} is not a JSON number")
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return NumberText(value)
    return value
