"""A file that is one JSON array of objects -> its objects, as `json.dump` and pandas write it.

    [
      {"question": "What pulls the tides?", "answer": "the moon"},
      ...
    ]

The text is held whole, up to MAX_DOCUMENT_BYTES, and parsed object by object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from orca2_gen.tasks.files import GZIP_FAULTS, TaskFile, open_file
from orca2_gen.tasks.rows import (
    MAX_LINE_BYTES,
    SourceRow,
    decode_text,
    numbered_row,
    parse_json,
    read_bytes,
)
from orca2_gen.tasks.statements import BadRowError, Row

_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
_MOST_SPACE = 4_096
_OPEN = re.compile(r"\s*\[\s*")
_COMMA = re.compile(r"\s*,\s*")
_END = re.compile(r"\s*\]\s*\Z")
_ADVICE = "write one object per line, e.g. with `jq -c '.[]'`"


def is_json_array(file: TaskFile) -> bool:
    """Whether the file begins as an array of objects, which no line of JSONL does."""
    with open_file(file) as stream:
        try:
            return _START.match(stream.read(_MOST_SPACE)) is not None
        except GZIP_FAULTS:
            return False  # the reader of lines says what is wrong


def read_json_array(file: TaskFile) -> Iterator[SourceRow]:
    """One row per object, in order.

    Raises:
        ValueError: the file is too large, no text, cut off or not one array, so that later objects
            would be missing.
    """
    try:
        text = decode_text(read_bytes(file, advice=_ADVICE))
    except BadRowError as error:
        raise ValueError(f"task file {file.path}: {error.detail}") from None
    if not text.rstrip().endswith("]"):
        raise _fault(file, "ends early", 0)
    position, index = text.index("["), 0
    while (found := _OPEN.match(text, position)) or (found := _COMMA.match(text, position)):
        try:
            _, position = _decode(text, found.end())
        except (json.JSONDecodeError, RecursionError):
            raise _fault(file, "is no JSON", index) from None
        row = _row(text[found.end() : position])
        yield numbered_row(file, index, row)
        index += 1
    if not _END.match(text, position):
        raise _fault(file, "is no JSON", index)


def _fault(file: TaskFile, found: str, index: int) -> ValueError:
    return ValueError(
        f"task file {file.path}: the JSON array {found} after {index} objects; fetch the file "
        f"again, or {_ADVICE}"
    )


def _row(body: str) -> Row | BadRowError:
    if len(body) > MAX_LINE_BYTES:
        detail = f"the object has {len(body)} characters, expected at most {MAX_LINE_BYTES}"
        return BadRowError("too_long", detail)
    try:
        return parse_json(body.encode("utf-8"), "a JSON object")
    except BadRowError as error:
        return error


# It only finds where an object ends; the row is read with the checks of every other.
_decode = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode
