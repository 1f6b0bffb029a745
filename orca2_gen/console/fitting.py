"""Tables on terminals of any width: headers wrap before cells do, and numbers are never cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDTH_OF_FILES = 130
"""Columns of a table that no terminal shows."""


def print_table(table: Table, console: Console | None = None) -> None:
    """Prints a table, as wide as the terminal or, in a file, as its columns need.

    Args:
        table: the table, which may be changed.
        console: where it is printed, which may become wider; None is stdout.
    """
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    fitted = fit(table, console)
    # Lines that a terminal breaks are better than numbers without their end.
    console.width = max(console.width, _measured(fitted, console).minimum)
    console.print(fitted)


def fit(table: Table, console: Console) -> Table:
    """The table, changed as little as makes it fit: headers on several lines, fewer borders, and at
    last texts on several lines.
    """
    for column in table.columns:
        column.no_wrap = True
    for _ in _ever_narrower(table):
        if _measured(table, console).maximum <= console.width:
            break
    return table


def _measured(table: Table, console: Console) -> Measurement:
    """What a table needs, however wide the console is."""
    return table.__rich_measure__(console, console.options.update(max_width=10_000))


def _ever_narrower(table: Table) -> Iterator[None]:
    """Narrows the table by one step at a time; the first leaves it as it is."""
    yield
    for column in table.columns:
        header = column.header
        words = header.plain if isinstance(header, Text) else str(header)
        column.header = "\n".join(words.split())
    yield
    table.box = box.SIMPLE_HEAD
    table.pad_edge = False
    yield
    table.box, table.padding = None, (0, 1, 0, 0)
    yield
    for column in table.columns:
        if column.justify != "right":
            column.no_wrap, column.overflow = False, "fold"
    yield
