"""Arrow data -> what it would take in memory, read before anything is decompressed.

Arrow allocates whatever a compressed buffer says that it unpacks to, and a column without buffers
can claim any number of rows. So 50 kB may ask for terabytes, with a digest that fits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import flatbuffers.table
import numpy as np
import pyarrow as pa
from flatbuffers import encode
from flatbuffers.number_types import Int64Flags, Uint8Flags, UOffsetTFlags

MOST_UNPACKED_BYTES, UNPACKED_PER_BYTE = 256 << 20, 200
"""A file unpacks to this many bytes, or this many times its own, whichever is more. Text packs 3 to
10 times; the most repetitive units that we know, prompts of 3,000 equal tokens, 70 times. A unit of
65,536 rows of 1 kB has 64 MB unpacked, and one of 32 kB a row more than 10 MB packed, so that 2 GB
are allowed."""
MOST_VALUES, VALUES_PER_BYTE = 4 << 20, 32
"""Likewise values, in which every column of a row, every item of a list and every field of these
counts, since each becomes a Python object of about 100 bytes. A unit of 65,536 rows and 15 columns
has 1 million; tokens that hardly differ pack to 8 a byte. A file that is not packed has less than
one a byte."""

_MAGIC = b"ARROW1"
_BLOCK = np.dtype([("offset", "<i8"), ("metadata", "<i4"), ("_", "<i4"), ("body", "<i8")])
_NODE = np.dtype([("length", "<i8"), ("nulls", "<i8")])
_BUFFER = np.dtype([("offset", "<i8"), ("length", "<i8")])
# Places of fields in Arrow's Message.fbs, Schema.fbs and File.fbs: 4 + 2 x the field's index.
_MESSAGE_KIND, _MESSAGE_HEADER = 6, 8
_DICTIONARY_BATCH = 6
_NODES, _BUFFERS, _COMPRESSION = 6, 8, 10
_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 8, 10
_SCHEMA, _DICTIONARY, _RECORD_BATCH = 1, 2, 3
_LENGTH_BYTES = 8


class UnusableArrow(ValueError):
    """Arrow data is not whole or too large; the message continues one that names the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """The size of one batch in memory."""

    rows: int
    values: int
    bytes: int


def check_unpacked(body: pa.Buffer, rows: int) -> None:
    """Checks that an Arrow file or stream has this many rows and can be held in memory.

    Raises:
        UnusableArrow: it has not, or cannot.
    """
    found_rows = values = num_bytes = 0
    for batch in batches_unpacked(body):
        found_rows += batch.rows
        values += batch.values
        num_bytes += batch.bytes
    if found_rows != rows:
        raise UnusableArrow(f"holds {found_rows} rows, its list says {rows}")
    for found, most, word in (
        (num_bytes, most_unpacked(body.size), "bytes"),
        (values, most_values(body.size), "values"),
    ):
        if found > most:
            raise UnusableArrow(
                f"would unpack from {body.size} bytes to {found} {word}; expected at most {most}"
            )


def most_unpacked(size: int) -> int:
    """The most bytes that so large a file may unpack to."""
    return max(MOST_UNPACKED_BYTES, UNPACKED_PER_BYTE * size)


def most_values(size: int) -> int:
    """The most values that so large a file may hold."""
    return max(MOST_VALUES, VALUES_PER_BYTE * size)


def is_file_format(body: pa.Buffer) -> bool:
    """Whether it is an Arrow file; else it is a stream, or nothing of Arrow's."""
    return memoryview(body)[: len(_MAGIC)] == _MAGIC


def batches_unpacked(source: pa.Buffer | pa.MemoryMappedFile) -> Iterator[Unpacked]:
    """The sizes of an Arrow file's or stream's batches, those of dictionaries with 0 rows.

    Args:
        source: a whole file or stream, or a mapped stream.

    Raises:
        UnusableArrow: the source is not whole, or its parts lie about their places.
    """
    is_file = isinstance(source, pa.Buffer) and is_file_format(source)
    try:
        for message in _file_messages(source) if is_file else _stream_messages(source):
            found = _unpacked(message)
            if found is not None:
                yield found
    except UnusableArrow:
        raise
    except (
        struct.error,
        IndexError,
        TypeError,
        ValueError,  # numpy's, of a vector beyond the end
        OverflowError,
        pa.ArrowException,
        OSError,
    ) as error:
        first = str(error).partition("\n")[0][:120]
        raise UnusableArrow(f"is not whole Arrow data ({first})") from None


def _stream_messages(source: pa.Buffer | pa.MemoryMappedFile) -> Iterator[pa.ipc.Message]:
    reader = pa.ipc.MessageReader.open_stream(source)
    try:
        while True:
            yield reader.read_next_message()
    except StopIteration:
        return


def _file_messages(body: pa.Buffer) -> Iterator[pa.ipc.Message]:
    """The messages that a file's footer names: a reader looks at no others."""
    end = body.slice(max(0, body.size - 10)).to_pybytes()
    (footer_bytes,) = struct.unpack("<i", end[:4])
    if end[4:] != _MAGIC or not 0 < footer_bytes <= body.size - 10:
        raise UnusableArrow("is not a whole Arrow file: it has no footer")
    footer = _root(body.slice(body.size - 10 - footer_bytes, footer_bytes))
    for place in (_FOOTER_DICTIONARIES, _FOOTER_BATCHES):
        for offset, metadata, _, length in _vector(footer, place, _BLOCK).tolist():
            if min(offset, metadata, length) < 0 or offset + metadata + length > body.size:
                raise UnusableArrow("is not whole Arrow data: a batch lies outside of the file")
            mark, stated = struct.unpack("<II", body.slice(offset, 8).to_pybytes())
            message = pa.ipc.read_message(body.slice(offset, metadata + length))
            # Arrow starts a body where the footer says, and we where the message ends.
            if mark != 0xFFFFFFFF or stated + 8 != metadata or _body_size(message) != length:
                raise UnusableArrow("is not whole Arrow data: footer and batches disagree")
            yield message


def _unpacked(message: pa.ipc.Message) -> Unpacked | None:
    """The size of a batch; None of a schema."""
    if message.metadata_version != pa.ipc.MetadataVersion.V5:
        # Arrow 0.17 wrote compressed batches that look like others.
        raise UnusableArrow(
            "was written by an Arrow older than 1.0; write it again with a newer one"
        )
    root = _root(message.metadata)
    kind = root.Get(Uint8Flags, root.Pos + root.Offset(_MESSAGE_KIND))
    if kind == _SCHEMA:
        return None
    if kind not in (_DICTIONARY, _RECORD_BATCH):
        raise UnusableArrow(f"is not Arrow data of rows: it has a message of type {message.type}")
    batch = _child(root, _MESSAGE_HEADER)
    if kind == _DICTIONARY:
        batch = _child(batch, _DICTIONARY_BATCH)
    place = batch.Offset(4)
    rows = batch.Get(Int64Flags, batch.Pos + place) if place else 0
    lengths = [length for length, _ in _vector(batch, _NODES, _NODE).tolist()]
    buffers = _vector(batch, _BUFFERS, _BUFFER).tolist()
    if min([rows, *lengths], default=0) < 0:
        raise UnusableArrow("is not whole Arrow data: a length is negative")
    return Unpacked(
        rows=rows if kind == _RECORD_BATCH else 0,
        values=max(rows, sum(lengths)),
        bytes=sum(_buffer_sizes(message.body, buffers, bool(batch.Offset(_COMPRESSION)))),
    )


def _buffer_sizes(
    body: pa.Buffer | None, buffers: list[tuple[int, int]], is_packed: bool
) -> Iterator[int]:
    size = body.size if body is not None else 0
    for offset, length in buffers:
        if min(offset, length) < 0 or offset + length > size:
            raise UnusableArrow("is not whole Arrow data: a buffer lies outside of its batch")
        stated = -1
        if is_packed and length:
            if length < _LENGTH_BYTES:
                raise UnusableArrow("is not whole Arrow data: a packed buffer has no length")
            assert body is not None
            (stated,) = struct.unpack("<q", body.slice(offset, _LENGTH_BYTES).to_pybytes())
            if stated < -1:
                raise UnusableArrow("is not whole Arrow data: a packed buffer's length is negative")
        yield length if stated == -1 else stated  # -1: this buffer is stored as it is


def _body_size(message: pa.ipc.Message) -> int:
    return message.body.size if message.body is not None else 0


def _root(buffer: pa.Buffer) -> flatbuffers.table.Table:
    view = memoryview(buffer)
    return flatbuffers.table.Table(view, encode.Get(UOffsetTFlags.packer_type, view, 0))


def _child(table: flatbuffers.table.Table, place: int) -> flatbuffers.table.Table:
    offset = table.Offset(place)
    if not offset:
        raise UnusableArrow("is not whole Arrow data: a batch lacks its parts")
    return flatbuffers.table.Table(table.Bytes, table.Indirect(table.Pos + offset))


def _vector(table: flatbuffers.table.Table, place: int, dtype: np.dtype) -> np.ndarray:
    offset = table.Offset(place)
    if not offset:
        return np.empty(0, dtype)
    return np.frombuffer(table.Bytes, dtype, table.VectorLen(offset), table.Vector(offset))
