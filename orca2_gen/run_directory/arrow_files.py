"""Records <-> Arrow files: a schema per record, an atomic write and a read that trusts nothing.

Arrow does not check what it reads: a stream cut at a batch boundary reads short without an error,
and one flipped offset can crash the process (arrow.apache.org/docs/format/Security.html). So every
file that a ledger or manifest lists is compared with its size and SHA-256 before Arrow sees a byte
of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import secrets
import socket
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

ROWS_PER_BATCH = 1024

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One written file, as ledger and manifest list it."""

    path: str
    """Path relative to the directory of the list, with forward slashes."""
    rows: int
    bytes: int
    sha256: str


class DamagedFile(ValueError):
    """A listed file is absent or is not what was written."""


@functools.cache
def arrow_schema(record: Any) -> pa.Schema:
    """The Arrow schema of a record class, one column per field, none nullable."""
    hints = typing.get_type_hints(record)
    return pa.schema(
        [pa.field(f.name, _arrow_type(hints[f.name]), False) for f in dataclasses.fields(record)]
    )


def _arrow_type(hint: Any) -> pa.DataType:
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(arrow_schema(typing.cast(type, hint))))
    if typing.get_origin(hint) is tuple:
        item, ellipsis = typing.get_args(hint)
        assert ellipsis is Ellipsis
        return pa.list_(pa.field("item", _arrow_type(item), False))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[hint]


def to_table(records: Sequence[Any], record: type) -> pa.Table:
    """The records as a table of `arrow_schema(record)`."""
    schema = arrow_schema(record)
    columns = [
        pa.array([_plain(getattr(r, name)) for r in records], type=schema.field(name).type)
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(typing.cast(Any, value))
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return [dataclasses.asdict(item) for item in value]
    return value


def from_table(table: pa.Table, record: type[R]) -> list[R]:
    """The table's rows as records."""
    build = _builder(record)  # type: ignore[arg-type]
    return [build(row) for row in table.to_pylist()]


@functools.cache
def _builder(record: Any) -> Callable[[dict[str, Any]], Any]:
    """A function from a row's dict to the record, with nested records and tuples rebuilt."""
    rebuild: dict[str, Callable[[Any], Any]] = {}
    for name, hint in typing.get_type_hints(record).items():
        if dataclasses.is_dataclass(hint):
            rebuild[name] = _builder(typing.cast(type, hint))
        elif typing.get_origin(hint) is tuple:
            item = typing.get_args(hint)[0]
            rebuild[name] = _tuple_of(_builder(item)) if dataclasses.is_dataclass(item) else tuple  # type: ignore[arg-type]

    def build(row: dict[str, Any]) -> Any:
        return record(
            **{key: rebuild[key](value) if key in rebuild else value for key, value in row.items()}
        )

    return build


def _tuple_of(build: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda values: tuple(build(value) for value in values)


def write_records(root: Path, path: str, records: Sequence[Any], record: type) -> FileEntry:
    """Writes an Arrow file `root/path` durably, in one step for readers, and returns its entry."""
    return write_table(root, path, to_table(records, record))


def write_table(root: Path, path: str, table: pa.Table) -> FileEntry:
    """Writes a table, with its schema's metadata, as `write_records` writes records."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(table, max_chunksize=ROWS_PER_BATCH)
    body = sink.getvalue().to_pybytes()
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


def read_records(root: Path, entry: FileEntry, record: type[R]) -> list[R]:
    """The records of a listed file.

    A column that the file lacks takes the field's default: an older version wrote the file before
    the record had that field.

    Raises:
        DamagedFile: the file is absent, or its size, digest, columns or row count is wrong.
    """
    table = read_table(root, entry)
    check_schema(table.schema, record, str(root / entry.path))
    return from_table(table, record)


def check_schema(schema: pa.Schema, record: type[Any], path: str) -> None:
    """Checks that rows of this schema can be read as records.

    Each column must be a field of the record, and each field without a column must have a default,
    in nested records too.

    Raises:
        DamagedFile: they cannot; the message names `path`.
    """
    fault = _column_fault(pa.struct(list(schema)), record)
    if fault:
        raise DamagedFile(f"{path} {fault}, so it holds no rows of {record.__name__}")


def _column_fault(found: pa.StructType, record: Any) -> str:
    """The fault that keeps rows of this type from being records; empty if there is none."""
    hints = typing.get_type_hints(record)
    fields = {field.name: field for field in dataclasses.fields(record)}
    columns = {column.name: column for column in found}
    for name in sorted(columns.keys() - fields.keys()):
        return f"has a column {name!r}"
    for name, field in fields.items():
        if name not in columns:
            if field.default is dataclasses.MISSING:
                return f"lacks the column {name!r}"
            continue
        hint, type_ = hints[name], columns[name].type
        if typing.get_origin(hint) is tuple and pa.types.is_list(type_):
            hint, type_ = typing.get_args(hint)[0], type_.value_type
        if dataclasses.is_dataclass(hint) and pa.types.is_struct(type_):
            if fault := _column_fault(type_, hint):
                return f"{fault} in {name!r}"
        elif type_ != _arrow_type(hint):
            return f"has {name!r} as {columns[name].type}"
    return ""


def read_table(root: Path, entry: FileEntry, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a listed Arrow file, or its `columns`; size, digest and rows are checked."""
    body = checked_bytes(root, entry)
    with pa.ipc.open_file(pa.py_buffer(body)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    if table.num_rows != entry.rows:
        raise DamagedFile(
            f"{root / entry.path} holds {table.num_rows} rows, its list says {entry.rows}"
        )
    return table if columns is None else table.select(list(columns))


def checked_bytes(root: Path, entry: FileEntry) -> bytes:
    """The bytes of a listed file, equal in size and SHA-256 to its entry."""
    path = inside(root, entry.path)
    try:
        body = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DamagedFile(f"{path} is listed but absent") from error
    if len(body) != entry.bytes:
        raise DamagedFile(f"{path} has {len(body)} bytes, its list says {entry.bytes}")
    if hashlib.sha256(body).hexdigest() != entry.sha256:
        raise DamagedFile(
            f"{path} has a SHA-256 other than its list says: it was changed after it was written"
        )
    return body


def inside(root: Path, path: str) -> Path:
    """`root / path`, refused if it leads out of root (`..`, absolute, symbolic link)."""
    joined = root / path
    if not joined.resolve().is_relative_to(root.resolve()):
        raise DamagedFile(
            f"{path!r} leads out of {root}; a list may only name files below its own directory"
        )
    return joined


def write_bytes(path: Path, body: bytes) -> None:
    """Writes a file durably: temporary name beside it, fsync, rename, fsync of the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with naming(path, len(body)):
            with open(temporary, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path, num_bytes: int) -> Iterator[None]:
    """Adds file and size to the error of a failed write; the system's error names neither."""
    try:
        yield
    except OSError as error:
        text = f"{error.strerror or error} while writing {num_bytes} bytes"
        raise OSError(error.errno, text, str(path)) from error


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no reader takes for a file and no other process uses."""
    return path.with_name(
        f".{path.name}.tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    )


def sync_directory(path: Path) -> None:
    """Makes a rename inside the directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
