"""What is wrong with a TOML file in plain words: where, what, and what to do.

The file's own text is never quoted, since a config that cannot be read cannot be asked for secrets
either.
"""

from __future__ import annotations

import re

_TWICE = "this name is given a second time; keep one"
_CLOSED = "this adds to a list or table that its brackets have closed; write the keys inside them"
_NO_QUOTE = "text has no closing quote on its line; add it"
_WORDS = (
    ("Invalid statement", "expected key = value, or the heading of a section in brackets"),
    ("Expected '=' after a key", "expected key = value"),
    ("Expected newline or end", "more follows the value; put text in quotes, or begin a new line"),
    ("Invalid value", "expected a value: text in quotes, a number, true or false, or a list"),
    ("Invalid date or datetime", "there is no such day or time; correct it, or put it in quotes"),
    ("Invalid initial character for a key", "expected a name of letters, digits, _ and -"),
    ("Cannot declare", "this section stands there a second time; join the two"),
    ("Cannot redefine namespace", "this section stands there a second time; join the two"),
    ("Cannot overwrite a value", _TWICE),
    ("Duplicate inline table key", _TWICE),
    ("Cannot mutate immutable", _CLOSED),
    ("Expected ']]'", "the heading of a section in a list has no closing ]]; add it"),
    ("Expected ']'", "the heading of a section has no closing ]; add it"),
    ("Unclosed array", "a list has no closing ], or lacks a comma; add it"),
    ("Unclosed inline table", "a table has no closing }, or lacks a comma; add it"),
    ("Unterminated string", "text has no closing quote; add it"),
    ("Expected \"'", "text has no closing quote; add it"),
    ("Illegal character '\\n'", _NO_QUOTE),
    ("Found invalid character '\\n'", _NO_QUOTE),
    ("Illegal character", "a control character stands in the text; remove it"),
    ("Found invalid character", "a control character stands in the text; remove it"),
    ("Unescaped '\\' in a string", "a backslash begins no known escape; double it"),
    (
        "Invalid hex value",
        "expected hexadecimal digits after \\u or \\U; else double the backslash",
    ),
    ("Escaped character is not", "no character has this number; correct the digits after \\u"),
)
"""Beginning of tomllib's message -> what it means."""


def toml_fault(error: Exception, body: bytes) -> str:
    """Where a file that tomllib or its decoding refused is wrong, what is wrong and what to do.

    Args:
        error: what `body.decode` or `tomllib.loads` raised.
        body: the bytes of the file.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply; take brackets out"
    if isinstance(error, UnicodeDecodeError):
        if body.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "it is encoded as UTF-16; save it as UTF-8"
        line = body.count(b"\n", 0, error.start) + 1
        return f"line {line} holds a byte that is not UTF-8; save the file as UTF-8"
    message = str(error)
    place = re.search(r"\(at line (\d+), column (\d+)\)$", message)
    last = body.rstrip().count(b"\n") + 1
    where = f"line {place[1]}, column {place[2]}" if place else f"line {last}, the last"
    for beginning, words in _WORDS:
        if message.startswith(beginning):
            return f"{where}: {words}"
    if "integer string conversion" in message:
        return "a number has too many digits; shorten it"
    return f"{where}: expected TOML"
