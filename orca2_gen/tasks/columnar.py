"""Parquet files and the Arrow streams of `datasets` -> rows, a few at a time.

Only pyarrow reads them: no data set script runs and nothing is unpickled. Arrow does not check the
data it maps, so every batch is validated before any of its values is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orca2_gen.run_directory.unpacking import UnusableArrow, batches_unpacked
from orca2_gen.tasks.files import TaskFile, open_file
from orca2_gen.tasks.rows import SourceRow
from orca2_gen.tasks.statements import BadRowError, NumberText, Row

ROWS_PER_BATCH = 256
MAX_BATCH_BYTES = 1024**3
"""Bytes of a row group or record batch, as stated in it; `datasets` writes 1,000 rows a batch."""

_ARROW_FILE = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError, UnusableArrow)


def read_columnar(file: TaskFile, wanted: Collection[str]) -> Iterator[SourceRow]:
    """The rows of a Parquet file or an Arrow stream, in order.

    Args:
        file: a name that ends in .arrow is a stream, any other is Parquet.
        wanted: columns, or paths into them, that the file must have; empty reads all.

    Raises:
        ValueError: a wanted column is missing, a batch has more than MAX_BATCH_BYTES, or the file
            is cut off or damaged, so that later rows would be missing.
    """
    open_file(file).close()  # Arrow would wait for the writer of a FIFO
    index = 0
    try:
        for batch, labels in _batches(file, wanted):
            for values in batch.to_pylist():
                row = _plain_row(values, labels)
                yield SourceRow(place=f"{file.shown}[{index}]", key=file.key(index), row=row)
                index += 1
    except _FAULTS as error:
        raise _fault(file, error, f" after {index} rows") from None


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


def _batches(file: TaskFile, wanted: Collection[str]) -> Iterator[tuple[pa.RecordBatch, Labels]]:
    if file.suffix == ".arrow":
        yield from _stream_batches(file, wanted)
        return
    with pq.ParquetFile(file.path, memory_map=True) as parquet:
        columns = _roots(file, parquet.schema_arrow, wanted)
        labels = _class_labels(parquet.schema_arrow)
        for group in range(parquet.num_row_groups):
            _check_size(file, parquet.metadata.row_group(group).total_byte_size)
        for batch in parquet.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
            batch.validate(full=True)
            yield batch, labels


def _stream_batches(
    file: TaskFile, wanted: Collection[str]
) -> Iterator[tuple[pa.RecordBatch, Labels]]:
    with pa.memory_map(str(file.path)) as source:
        for found in batches_unpacked(source):  # before anything is unpacked
            _check_size(file, found.bytes)
    with pa.memory_map(str(file.path)) as source, pa.ipc.open_stream(source) as reader:
        columns = _roots(file, reader.schema, wanted)
        labels = _class_labels(reader.schema)
        for batch in reader:
            batch.validate(full=True)
            _check_size(file, batch.get_total_buffer_size())  # nbytes would count by offsets
            kept = batch.select(columns)
            for start in range(0, kept.num_rows, ROWS_PER_BATCH):
                yield kept.slice(start, ROWS_PER_BATCH), labels
    _check_end(file)


def _check_size(file: TaskFile, num_bytes: int) -> None:
    if num_bytes > MAX_BATCH_BYTES:
        raise ValueError(
            f"task file {file.path}: a row group of {num_bytes} bytes, expected at most "
            f"{MAX_BATCH_BYTES}; write the file again with smaller row groups"
        )


def _roots(file: TaskFile, schema: pa.Schema, wanted: Collection[str]) -> list[str]:
    """The top-level columns that hold the wanted ones, in the file's order."""
    names = list(schema.names)
    if not wanted:
        return names
    roots = {way if way in names else way.partition(".")[0] for way in wanted}
    if missing := sorted(roots - set(names)):
        raise ValueError(
            f"task file {file.path}: no column {missing[0]!r}; it has {', '.join(names)[:300]}; "
            "correct the task's columns"
        )
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
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRowError("bad_number", f"{value} is not a JSON number")
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return NumberText(value)
    return value
