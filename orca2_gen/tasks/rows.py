"""Lines of a task file -> (line number, object) or Rejection: the part every reader shares.

A line is bytes up to a newline byte and nothing else: U+2028 inside a JSON string is text. At most
MAX_LINE_BYTES of a line are held, however long it is; a longer one is skipped and rejected.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from orca2_gen.records import AnswerType, Rejection

MAX_LINE_BYTES = 1_000_000
MAX_TEXT_CHARS = 100_000
MAX_ID_CHARS = 200
MAX_NUMBER_CHARS = 1_000
"""Python refuses integers of more than 4,300 digits; no honest number of a task is this long."""

_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"

Row = Mapping[str, Any]


class NumberText(str):
    """A JSON number as the file wrote it: 1.10 stays 1.10, and no digit is lost in a float."""

    __slots__ = ()


class BadRowError(ValueError):
    """A row that cannot become a Problem; `read_task` turns it into a Rejection."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the countable word and the sentence apart."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """What a row states, before it has an identity: the fields of a Problem set by the format."""

    question: str
    target: str
    answer_type: AnswerType
    choices: tuple[str, ...] = ()
    category: str = ""
    source_id: str | None = None
    """Encoded by `read_id`; None where the row has none and its line index stands in."""


def open_rows(path: Path) -> BinaryIO:
    """Returns the file, open for bytes and gunzipped as it is read where its name ends in .gz."""
    if not path.is_file():
        found = "a directory" if path.is_dir() else "nothing there"
        raise ValueError(
            f"task file {path}: expected a readable file, found {found}; mend the path"
        )
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ValueError(
            f"task file {path}: expected a readable file, found '{error.strerror}'; "
            "check its permissions"
        ) from None
    if path.suffix != ".gz":
        return stream
    start = stream.read(len(_GZIP_MAGIC))
    stream.close()
    if not _GZIP_MAGIC.startswith(start) and start != _GZIP_MAGIC:
        raise ValueError(f"task file {path}: named .gz but not gzip data; rename it or compress it")
    return cast(BinaryIO, gzip.open(path, "rb"))


def read_rows(stream: BinaryIO, file_name: str) -> Iterator[tuple[int, Row] | Rejection]:
    """Yields one (1-based line number, object) or Rejection per non-blank line, in file order.

    A gzip file that ends early or is damaged gives what could be read, then one last Rejection.
    """
    line_number = 0
    try:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            line_number += 1
            if len(line) > MAX_LINE_BYTES:
                num_bytes = len(line) + (0 if line.endswith(b"\n") else _skip_line(stream))
                detail = f"the line has {num_bytes} bytes, expected at most {MAX_LINE_BYTES}"
                yield reject(file_name, line_number, "too_long", detail)
                continue
            if line_number == 1:
                line = line.removeprefix(_BOM)
            if line.strip():
                try:
                    yield line_number, parse_row(line)
                except BadRowError as error:
                    yield reject(file_name, line_number, error.reason, error.detail)
        if _is_cut_in_magic(stream):
            raise EOFError
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        is_cut = isinstance(error, EOFError) or _is_cut_in_magic(stream)
        reason, found = (
            ("truncated_file", "end early") if is_cut else ("damaged_file", "are damaged")
        )
        detail = f"the gzip data {found} after line {line_number}; fetch the file again"
        yield reject(file_name, line_number + 1, reason, detail)


def _is_cut_in_magic(stream: BinaryIO) -> bool:
    """Returns whether it is a .gz of 0 or 1 bytes, which reads as empty or as no gzip at all."""
    return isinstance(stream, gzip.GzipFile) and stream.fileobj.tell() < len(_GZIP_MAGIC)


def _skip_line(stream: BinaryIO) -> int:
    """Returns how many bytes were passed over to reach the next line."""
    num_bytes = 0
    while piece := stream.readline(MAX_LINE_BYTES):
        num_bytes += len(piece)
        if piece.endswith(b"\n"):
            break
    return num_bytes


def parse_row(line: bytes) -> Row:
    """Returns the one JSON object on the line; numbers stay text (`NumberText`)."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError(
            "bad_text", f"not UTF-8 at byte {error.start} of the line; save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise BadRowError("bad_text", "the line holds a NUL byte; save the file as UTF-8 text")
    try:
        row = _decode_json(text)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at character {error.pos}; expected one JSON object per line"
        raise BadRowError("not_json", detail) from None
    except RecursionError:
        raise BadRowError("too_deep", "lists or objects nested too deep to read") from None
    if not isinstance(row, dict):
        raise BadRowError("not_an_object", f"expected a JSON object, found {describe(row)}")
    return row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRowError("duplicate_key", f"the key {describe(twice)} stands twice in one object")
    return row


def _keep_number(text: str) -> NumberText:
    if len(text) > MAX_NUMBER_CHARS:
        detail = f"a number of {len(text)} characters, expected at most {MAX_NUMBER_CHARS}"
        raise BadRowError("bad_number", detail)
    return NumberText(text)


def _refuse_constant(name: str) -> None:
    raise BadRowError("bad_number", f"{name} is not a JSON number")


_decode_json = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_int=_keep_number,
    parse_float=_keep_number,
    parse_constant=_refuse_constant,
).decode


def describe(value: object) -> str:
    """Returns the value for a message: ASCII only, at most 60 characters of it."""
    if isinstance(value, (list, dict)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if not isinstance(value, str):
        return "nothing" if value is None else str(value).lower()
    shown = value[:60] if isinstance(value, NumberText) else ascii(value[:60])
    return shown if len(shown) <= 60 else shown[:57] + "..."


def reject(file_name: str, line_number: int, reason: str, detail: str) -> Rejection:
    """Returns the Rejection of one line; a file name with unprintable characters is escaped."""
    problem_id = f"{file_name if file_name.isprintable() else ascii(file_name)}:{line_number}"
    return Rejection(
        problem_id=problem_id, stage="tasks", reason=reason, detail=f"{problem_id}: {detail}"
    )


def read_text(row: Row, key: str, reason: str) -> str:
    """Returns the text under the key, a number as the file wrote it; refuses none and blank."""
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRowError(reason, f"expected text under {key!r}, found {describe(value)}")
    return check_text(value, key, reason)


def check_text(value: object, key: str, reason: str) -> str:
    """Returns the value as a plain string that Arrow can hold, of at most MAX_TEXT_CHARS."""
    if not isinstance(value, str):
        raise BadRowError(reason, f"expected text under {key!r}, found {describe(value)}")
    if len(value) > MAX_TEXT_CHARS:
        detail = f"{key!r} has {len(value)} characters, expected at most {MAX_TEXT_CHARS}"
        raise BadRowError("too_long", detail)
    if "\0" in value:
        raise BadRowError("bad_text", f"{key!r} holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        detail = f"{key!r} holds a lone surrogate at character {error.start}"
        raise BadRowError("bad_text", detail) from None
    return str(value)


def read_id(row: Row) -> str | None:
    """Returns the row's own id, percent-encoded, or None where the row has no `id`.

    Everything but ASCII letters, digits and `_.-~` is encoded, and dots too in an id that is all
    dots. So the result is one path-safe word, and different ids stay different, up to Unicode form:
    NFC comes first. The text "7" and the number 7 are the same id.
    """
    if "id" not in row:
        return None
    value = row["id"]
    is_number = isinstance(value, NumberText)
    if not isinstance(value, str) or (is_number and not value.lstrip("-").isdigit()):
        raise BadRowError(
            "bad_id", f"expected text or an integer under 'id', found {describe(value)}"
        )
    if not value.strip() or len(value) > MAX_ID_CHARS:
        found = f"found {len(value)}: {describe(value)}"
        raise BadRowError("bad_id", f"expected 1 to {MAX_ID_CHARS} characters under 'id', {found}")
    if value.isascii() and value.replace("_", "").replace("-", "").isalnum():
        return str(value)
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in value):
        raise BadRowError("bad_id", f"control characters under 'id': {describe(value)}")
    if not value.strip("."):
        return value.replace(".", "%2E")
    return quote(unicodedata.normalize("NFC", value), safe="")
