"""Texts of strangers -> Markdown that shows them and does nothing else: tables, lines, code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_MOST_CHARACTERS = 120
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
# An underscore inside a word is only an underscore.
_MARKUP = re.compile(r"[\\`*\[\]$~]|(?<![^\W_])_|_(?![^\W_])")


def one_line(text: str, most: int = _MOST_CHARACTERS) -> str:
    """The text in one line: what is not printable is a space, and what is too long is cut."""
    # Cut first: a name of a stranger may be of any length.
    shown = "".join(char if char.isprintable() else " " for char in text[: 4 * most])
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def escaped(text: str, most: int = _MOST_CHARACTERS) -> str:
    """The text in one line, as Markdown that shows these very characters."""
    shown = _MARKUP.sub(lambda found: "\\" + found[0], one_line(text, most))
    for char, entity in _ENTITIES.items():
        shown = shown.replace(char, entity)
    return shown


def cell(value: object) -> str:
    """A value in a cell of a table: numbers with separators of thousands, nothing as a dash."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}"
    if value is None or value == "":
        return "-"
    return escaped(str(value)) or "-"


def table(names: Sequence[str], rows: Sequence[Sequence[object]], most: int, rest: str) -> str:
    """A table of at most so many rows, and a line that says how many are left out.

    Args:
        names: the headings; a value below one that ends in `#` is a number, without the sign.
        rows: the cells of each row.
        most: rows that are shown.
        rest: what the rows are, for that line.
    """
    assert all(len(row) == len(names) for row in rows)
    rules = ["---:" if name.endswith("#") else "---" for name in names]
    lines = [_row(name.removesuffix("#").strip() for name in names), _row(rules)]
    lines += [_row(map(cell, row)) for row in rows[:most]]
    text = "\n".join(lines) + "\n"
    if len(rows) > most:
        text += f"\nand {len(rows) - most:,} more {rest}, which manifest.json lists.\n"
    return text


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def json_line(value: Any) -> str:
    """The value in one line of JSON that can stand in a block of code."""
    text = json.dumps(value, sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("`", "\\u0060")
