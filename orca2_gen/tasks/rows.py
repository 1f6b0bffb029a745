"""Files of lines or of JSON documents -> rows with their places: the part every reader shares.

Only a newline byte ends a line: U+2028 inside a JSON string is text. At most MAX_LINE_BYTES of a
line are held, however long it is; a longer one is skipped and rejected. A document is held whole,
up to MAX_DOCUMENT_BYTES.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from orca2_gen.records import Rejection
from orca2_gen.tasks.files import GZIP_FAULTS, TaskFile, gzip_fault, open_file
from orca2_gen.tasks.statements import BadRowError, NumberText, Row, describe

MAX_LINE_BYTES = 1_000_000
MAX_DOCUMENT_BYTES = 128 * 1024 * 1024
"""Bytes of a file that is parsed in one piece; parsed, it takes up to about eight times as much."""
MAX_NUMBER_CHARS = 1_000
"""Characters of a number: no honest one is this long; Python refuses integers over 4,300 digits."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """One row of a task's files, as the file has it."""

    place: str
    """`file:line`, or the file and the path inside it: where a person finds the row."""
    key: str
    """Identity of a row without an id; unique within the task."""
    row: Row | BadRowError
    file: str = ""
    """The file's name, as in `place`."""
    line: int = 0
    """Its line, or its number among the file's rows, from 1; 0 where it is about a file."""
    is_about_file: bool = False
    """Whether it is a fault of the file and not a row; no sample skips such faults."""


DocumentPart = tuple[str, int | None, Row | BadRowError]
"""A row inside a document: its path, its index (None in a document of one row), the row."""
DocumentSplit = Callable[[Row, TaskFile], Iterator[DocumentPart]]
"""A document -> its rows; a BadRowError if it is not a document of the format."""


def reject(place: str, error: BadRowError, stage: str) -> Rejection:
    """The Rejection of the row at the place."""
    return Rejection(
        problem_id=place, stage=stage, reason=error.reason, detail=f"{place}: {error.detail}"
    )


def read_lines(file: TaskFile) -> Iterator[SourceRow]:
    """One row per non-blank line of JSON, in file order.

    Raises:
        ValueError: see `numbered_lines`.
    """
    row: Row | BadRowError
    for line_number, line in numbered_lines(file):
        if isinstance(line, BadRowError):
            row = line
        elif not line.strip():
            continue
        else:
            row = _parsed(line)
        yield source_row(file, line_number, row)


def _parsed(line: bytes) -> Row | BadRowError:
    try:
        return parse_json(line, "one JSON object per line")
    except BadRowError as error:
        return error


def source_row(file: TaskFile, line_number: int, row: Row | BadRowError) -> SourceRow:
    """The row of a line, whose number is 1-based."""
    return SourceRow(
        place=f"{file.shown}:{line_number}",
        key=file.key(line_number - 1),
        row=row,
        file=file.shown,
        line=line_number,
    )


def numbered_row(file: TaskFile, index: int, row: Row | BadRowError) -> SourceRow:
    """The row of a file of rows without lines, by its place from 0."""
    return SourceRow(
        place=f"{file.shown}[{index}]",
        key=file.key(index),
        row=row,
        file=file.shown,
        line=index + 1,
    )


def numbered_lines(file: TaskFile) -> Iterator[tuple[int, bytes | BadRowError]]:
    """Every line, including blank ones, with its 1-based number; one that is too long as its error.

    Raises:
        ValueError: gzip data are cut off or damaged, so that later lines would be missing.
    """
    line_number = 0
    with open_file(file) as stream:
        try:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                line_number += 1
                if len(line) > MAX_LINE_BYTES:
                    num_bytes = len(line) + (0 if line.endswith(b"\n") else _skip_line(stream))
                    detail = f"the line has {num_bytes} bytes, expected at most {MAX_LINE_BYTES}"
                    yield line_number, BadRowError("too_long", detail)
                    continue
                yield line_number, line.removeprefix(_BOM) if line_number == 1 else line
        except GZIP_FAULTS as error:
            raise gzip_fault(file, error, f" after line {line_number}") from None


def _skip_line(stream: BinaryIO) -> int:
    """The number of bytes skipped to reach the next line."""
    num_bytes = 0
    while piece := stream.readline(MAX_LINE_BYTES):
        num_bytes += len(piece)
        if piece.endswith(b"\n"):
            break
    return num_bytes


def read_document(file: TaskFile, split: DocumentSplit) -> Iterator[SourceRow]:
    """The rows of a file that is one JSON object; one bad row if it is not one, or not whole.

    Raises:
        ValueError: the file has more than MAX_DOCUMENT_BYTES, or is a gzip file that is not whole.
    """
    try:
        document = parse_json(read_bytes(file), "a file that is one JSON object")
        for way, index, row in split(document, file):
            yield SourceRow(
                place=f"{file.shown}{way}",
                key=file.key(index),
                row=row,
                file=file.shown,
                line=(index or 0) + 1,
            )
    except BadRowError as error:
        yield SourceRow(place=file.shown, key=file.key(None), row=error, is_about_file=True)


def read_bytes(
    file: TaskFile, *, advice: str = "split it into several files or convert it to jsonl"
) -> bytes:
    """The whole file, without a byte order mark.

    Raises:
        ValueError: it has more than MAX_DOCUMENT_BYTES, or is a gzip file that is not whole.
    """
    with open_file(file) as stream:
        try:
            body = stream.read(MAX_DOCUMENT_BYTES + 1)
        except GZIP_FAULTS as error:
            raise gzip_fault(file, error, "") from None
    if len(body) > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"task file {file.path}: more than {MAX_DOCUMENT_BYTES} bytes, in a format that is "
            f"read a whole file at a time; {advice}"
        )
    return body.removeprefix(_BOM)


def document_list(document: Row, key: str) -> list[Any]:
    """The list under the key of a document."""
    found = document.get(key)
    if not isinstance(found, list):
        detail = f"expected a list under {key!r}, found {describe(found)}; check the format"
        raise BadRowError("wrong_format", detail)
    return found


def document_object(value: object, where: str) -> Row:
    """The value, which must be an object."""
    if not isinstance(value, dict):
        raise BadRowError("not_an_object", f"expected an object {where}, found {describe(value)}")
    return value


def decode_text(body: bytes) -> str:
    """The bytes as text without NUL."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError(
            "bad_text", f"not UTF-8 at byte {error.start}; save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise BadRowError("bad_text", "found a NUL byte; save the file as UTF-8 text")
    return text


def parse_json(body: bytes, expected: str) -> Row:
    """The one JSON object in the bytes; numbers stay text (`NumberText`), NaN stays a float."""
    text = decode_text(body)
    try:
        row = _decode_json(text)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at character {error.pos}; expected {expected}"
        raise BadRowError("not_json", detail) from None
    except RecursionError:
        raise BadRowError("too_deep", "lists or objects are nested too deeply to read") from None
    if not isinstance(row, dict):
        raise BadRowError("not_an_object", f"expected a JSON object, found {describe(row)}")
    return row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRowError("duplicate_key", f"the key {describe(twice)} occurs twice in one object")
    return row


def _keep_number(text: str) -> NumberText:
    if len(text) > MAX_NUMBER_CHARS:
        detail = f"a number of {len(text)} characters, expected at most {MAX_NUMBER_CHARS}"
        raise BadRowError("bad_number", detail)
    return NumberText(text)


def _keep_nan(name: str) -> float:
    if name == "NaN":  # what `json.dumps` writes where a pandas row lacks a value
        return math.nan
    raise BadRowError("bad_number", f"{name} is not a JSON number")


_decode_json = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_int=_keep_number,
    parse_float=_keep_number,
    parse_constant=_keep_nan,
).decode
