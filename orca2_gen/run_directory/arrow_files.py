"""Records <-> Arrow files: an atomic write and a read that trusts nothing.

Arrow does not check what it reads: a stream cut at a batch boundary reads short without an error,
and one flipped offset can crash the process (arrow.apache.org/docs/format/Security.html). So every
file that a ledger or manifest lists is compared with its size and SHA-256 before Arrow sees a byte
of it. A stranger's list fits a stranger's file, so what the file would take in memory is bounded
too, and every value is validated.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.record_tables import (
    check_schema,
    column_with_nulls,
    from_table,
    to_table,
)
from orca2_gen.run_directory.regular_files import DamagedFile as DamagedFile
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular
from orca2_gen.run_directory.unpacking import UnusableArrow, check_unpacked, is_file_format

ROWS_PER_BATCH = 1024
MOST_FILE_BYTES = 16 << 30
"""Bytes of a listed file, which is held whole: a shard of 50,000 examples of 32,768 tokens has 13
GB, and whoever lists a sparse file of 200 GB has no shard."""

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One written file, as ledger and manifest list it."""

    path: str
    """Path relative to the directory of the list, with forward slashes."""
    rows: int
    bytes: int
    sha256: str


def write_records(root: Path, path: str, records: Sequence[Any], record: type) -> FileEntry:
    """Writes an Arrow file `root/path` durably, in one step for readers, and returns its entry."""
    return write_table(root, path, to_table(records, record))


def write_table(root: Path, path: str, table: pa.Table) -> FileEntry:
    """Writes a table, with its schema's metadata, as `write_records` writes records."""
    packed = _file_body(table, "zstd")
    try:
        check_unpacked(packed, table.num_rows)
    except ValueError:  # it packs so well that no reader would believe it
        packed = _file_body(table, None)
    body = packed.to_pybytes()
    write_bytes(root / path, body)
    return FileEntry(
        path=path, rows=table.num_rows, bytes=len(body), sha256=hashlib.sha256(body).hexdigest()
    )


def rows_digest(table: pa.Table) -> str:
    """SHA-256 of a table's rows as Arrow lays them out, whatever its metadata and compression."""
    digest = hashlib.sha256()
    for batch in table.combine_chunks().to_batches(max_chunksize=ROWS_PER_BATCH):
        digest.update(batch.serialize())
    return digest.hexdigest()


def _file_body(table: pa.Table, compression: str | None) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=ROWS_PER_BATCH)
    return sink.getvalue()


def read_records(root: Path, entry: FileEntry, record: type[R]) -> list[R]:
    """The records of a listed file.

    A column that the file lacks takes the field's default: an older version wrote the file before
    the record had that field.

    Raises:
        DamagedFile: see `read_table`.
    """
    return from_table(read_table(root, entry, record), record)


def read_table(root: Path, entry: FileEntry, record: type[Any] | None = None) -> pa.Table:
    """The table of a listed Arrow file or stream, fully validated.

    Args:
        root: the directory of the list.
        entry: the file's line in it.
        record: the record of its rows; None takes any columns.

    Raises:
        DamagedFile: the file is absent, or its size, digest, columns or row count is wrong, or it
            would unpack to more than any of ours.
    """
    path = root / entry.path
    body = pa.py_buffer(checked_bytes(root, entry))
    try:
        check_unpacked(body, entry.rows)
        with _reader(body) as reader:
            if record is not None:
                check_schema(reader.schema, record)
            table = reader.read_all()
        table.validate(full=True)
        if record is not None and (name := column_with_nulls(table)):
            raise ValueError(f"the column {name!r} has a null")
    except (ValueError, pa.ArrowException, OSError) as error:  # a codec raises OSError
        raise DamagedFile(f"{path} {_continued(error)}") from None
    if table.num_rows != entry.rows:
        raise DamagedFile(f"{path} holds {table.num_rows} rows, its list says {entry.rows}")
    return table


def read_batches(
    root: Path, entry: FileEntry, check: Callable[[pa.Schema], None]
) -> Iterator[pa.RecordBatch]:
    """The batches of a listed Arrow stream, one in memory at a time, each fully validated.

    Args:
        root: the directory of the list.
        entry: the file's line in it.
        check: raises ValueError for columns that the rows may not have.

    Raises:
        DamagedFile: as `read_table`.
    """
    path = root / entry.path
    check_file(root, entry)
    try:
        with pa.memory_map(str(path)) as mapped:
            check_unpacked(mapped.read_buffer(), entry.rows)
        # Mapped pages would count as memory of ours, so the rows are read and not mapped.
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            check(reader.schema)
            for batch in reader:
                batch.validate(full=True)
                if name := column_with_nulls(pa.Table.from_batches([batch])):
                    raise ValueError(f"the column {name!r} has a null")
                yield batch
    except (ValueError, pa.ArrowException, OSError) as error:
        raise DamagedFile(f"{path} {_continued(error)}") from None


def _continued(error: Exception) -> str:
    """The error as the rest of a sentence that begins with a file's name."""
    first = str(error).partition("\n")[0][:200]
    return first if isinstance(error, UnusableArrow) else f"is damaged: {first}"


def _reader(body: pa.Buffer) -> Any:
    """The reader of a file, or of a stream, which `datasets` maps."""
    return pa.ipc.open_file(body) if is_file_format(body) else pa.ipc.open_stream(body)


def checked_bytes(root: Path, entry: FileEntry) -> bytes:
    """The bytes of a listed file, equal in size and SHA-256 to its entry.

    Raises:
        DamagedFile: it is absent, no regular file, or not what was written.
    """
    with _listed(root, entry) as file:
        body = file.read(entry.bytes)
    _check_digest(root, entry, hashlib.sha256(body).hexdigest())
    return body


def check_file(root: Path, entry: FileEntry) -> None:
    """Checks a listed file as `checked_bytes` does, without holding it."""
    with _listed(root, entry) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _check_digest(root, entry, digest)


@contextmanager
def _listed(root: Path, entry: FileEntry) -> Iterator[BufferedReader]:
    """The file of an entry, of whose size it is."""
    path = inside(root, entry.path)
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise DamagedFile(f"{path} is listed but absent") from error
    except UnusableFile as error:
        raise DamagedFile(str(error)) from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.bytes:
            raise DamagedFile(f"{path} has {size} bytes, its list says {entry.bytes}")
        if size > MOST_FILE_BYTES:
            raise DamagedFile(f"{path} has {size} bytes; expected at most {MOST_FILE_BYTES}")
        yield file


def _check_digest(root: Path, entry: FileEntry, digest: str) -> None:
    if digest != entry.sha256:
        raise DamagedFile(
            f"{root / entry.path} has a SHA-256 other than its list says: it was changed after it "
            "was written"
        )


def inside(root: Path, path: str) -> Path:
    """`root / path`, refused if it leads out of root (`..`, absolute, symbolic link)."""
    joined = root / path
    try:
        is_inside = joined.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL, a long name
        raise DamagedFile(f"{path[:200]!r} in {root} is no path of a file: {error}") from None
    if not is_inside:
        raise DamagedFile(
            f"{path!r} leads out of {root}; a list may only name files below its own directory"
        )
    return joined
