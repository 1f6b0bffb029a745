"""Batches of rows -> Parquet or JSONL files of bounded size, with their digests.

The names are those of `datasets`' own exports, so `load_dataset` finds split and order by them. A
file holds whole row groups, and a row group whole rows: what is held in memory is one of these,
however long the rows are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orca2_gen.dataset.shapes import starts_of
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.durable_files import HashedWriter, naming

Format = Literal["parquet", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The most of a part of an export; what a single row exceeds is a part of one row."""

    group_rows: int = 10_000
    group_bytes: int = 64 << 20
    """Bytes of a row group as Arrow holds it."""
    file_bytes: int = 512 << 20
    """Bytes after which the next row group goes to another file; a hub likes no larger ones."""


BOUNDS = Bounds()
_BYTES_AS_OBJECTS = 1 << 20
"""Bytes of rows that are Python objects at once: they take thirty times as much, as tokens."""

# JSON escapes all others that end a line for `str.splitlines`.
_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Write = Callable[[pa.Table], None]
"""Writes a row group."""


def write_files(
    folder: Path,
    shown: Path,
    batches: Iterator[pa.RecordBatch],
    *,
    schema: pa.Schema,
    format: Format,
    bounds: Bounds,
) -> list[FileEntry]:
    """The entries of the files, written durably into the folder.

    Args:
        folder: where to write.
        shown: the folder that errors name.
        batches: the rows, of the schema.
        schema: the columns, with metadata for Parquet.
        format: the files' format.
        bounds: the most of a row group and of a file.
    """
    opened = {"parquet": _parquet, "jsonl": _jsonl}[format]
    groups = row_groups(batches, schema, bounds)
    group = next(groups, None)
    entries: list[FileEntry] = []
    while group is not None:
        name, rows = f"train-{len(entries):05d}.{format}", 0
        with writing(folder, shown, name) as sink, opened(sink, schema) as write:
            while group is not None:
                write(group)
                rows += group.num_rows
                group = next(groups, None)
                if sink.num_bytes >= bounds.file_bytes:
                    break
        entries.append(entry_of(sink, name, rows))
    return [_counted(folder, entry, len(entries)) for entry in entries]


@contextmanager
def writing(folder: Path, shown: Path, name: str) -> Iterator[HashedWriter]:
    """A writer of a file in the folder, which is durable once the block has ended.

    An error names the file as one of the folder `shown`, which the folder is about to become.
    """
    path = shown / name
    with naming(path, 0):
        file = open(folder / name, "wb")  # noqa: SIM115 - closed below
    sink = HashedWriter(path=path, file=file)
    try:
        yield sink
        sink.flush()
        with naming(path, sink.num_bytes):
            os.fsync(file.fileno())
    finally:
        # Closing tries once more to write what could not be written, and names no file.
        with suppress(OSError):
            file.close()


def entry_of(sink: HashedWriter, name: str, rows: int) -> FileEntry:
    """The entry of a written file."""
    return FileEntry(path=name, rows=rows, bytes=sink.num_bytes, sha256=sink.hash.hexdigest())


def _counted(folder: Path, entry: FileEntry, count: int) -> FileEntry:
    """The entry after its file's name tells the number of files too."""
    stem, _, suffix = entry.path.partition(".")
    name = f"{stem}-of-{count:05d}.{suffix}"
    os.rename(folder / entry.path, folder / name)
    return FileEntry(path=name, rows=entry.rows, bytes=entry.bytes, sha256=entry.sha256)


def row_groups(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, bounds: Bounds
) -> Iterator[pa.Table]:
    """The rows in groups, each within the bounds or of one row."""
    held: list[pa.RecordBatch] = []
    rows = num_bytes = 0
    for batch in batches:
        for part in parts_of(batch, bounds.group_rows, bounds.group_bytes):
            size = part.nbytes
            is_over = rows + part.num_rows > bounds.group_rows
            if held and (is_over or num_bytes + size > bounds.group_bytes):
                yield pa.Table.from_batches(held, schema)
                held, rows, num_bytes = [], 0, 0
            held.append(part)
            rows += part.num_rows
            num_bytes += size
    if held:
        yield pa.Table.from_batches(held, schema)


def parts_of(batch: pa.RecordBatch, rows: int, num_bytes: int) -> Iterator[pa.RecordBatch]:
    """The batch in order, halved until each part is within the bounds or is one row."""
    if batch.num_rows > 1 and (batch.num_rows > rows or batch.nbytes > num_bytes):
        half = batch.num_rows // 2
        yield from parts_of(batch.slice(0, half), rows, num_bytes)
        yield from parts_of(batch.slice(half), rows, num_bytes)
    elif batch.num_rows:
        yield batch


@contextmanager
def _parquet(sink: HashedWriter, schema: pa.Schema) -> Iterator[Write]:
    writer = pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True)
    try:
        yield lambda group: writer.write_table(group, row_group_size=group.num_rows)
        writer.close()
    finally:
        # After a failed write, pyarrow would write the footer once more while it is collected.
        writer.is_open = False


@contextmanager
def _jsonl(sink: HashedWriter, schema: pa.Schema) -> Iterator[Write]:
    def write(group: pa.Table) -> None:
        for batch in group.to_batches():
            for part in parts_of(batch, batch.num_rows, _BYTES_AS_OBJECTS):
                sink.write("".join(_lines(part)).encode())

    yield write


def _lines(part: pa.RecordBatch) -> Iterator[str]:
    """The rows as lines of JSON, each of which is one line for every reader."""
    keys = [_ENCODE(name) for name in part.schema.names]
    for values in zip(*map(_encoded, part.columns), strict=True):
        yield f"{{{','.join(map(':'.join, zip(keys, values, strict=True)))}}}\n"


def _encoded(column: pa.Array) -> list[str]:
    """The values of a column in JSON; Arrow writes lists of tokens ten times as fast."""
    if pa.types.is_list(column.type) and pa.types.is_integer(column.type.value_type):
        digits = column.flatten().cast(pa.string())
        lists = pa.ListArray.from_arrays(pa.array(starts_of(column)), digits)
        return [f"[{joined}]" for joined in pc.binary_join(lists, ",").to_pylist()]
    return [json_text(value) for value in column.to_pylist()]


def json_text(value: object) -> str:
    """The value in JSON without any character at which a reader of lines may end one."""
    text = _ENCODE(value)
    if not text.isascii():
        for end, escaped in _LINE_ENDS.items():
            text = text.replace(end, escaped)
    return text
