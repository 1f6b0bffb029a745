"""What a whole run takes and gives, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from orca2_gen.console.durations import duration
from orca2_gen.foresight.expected import Expected, total
from orca2_gen.foresight.needs import WholeRun


def needs_table(whole: WholeRun, title: str) -> Table:
    """What a whole run takes by stage."""
    table = Table(title=title, title_justify="left")
    table.add_column("stage")
    for name in ("requests", "tokens in", "tokens out", "engine-seconds", "time", "disk"):
        table.add_column(name, justify="right")
    for need in whole.stages:
        numbers = (need.requests, need.prompt_tokens, need.generated_tokens, need.engine_seconds)
        cells = [expected_text(number, short_number) for number in numbers]
        times = expected_text(need.seconds, duration)
        table.add_row(Text(need.stage), *cells, times, decimal(round(need.num_bytes)))
    return table


def expected_text(number: Expected | None, said: Callable[[float], str]) -> str:
    """A number in words, with where it lies unless it is known; a dash for none."""
    if number is None:
        return "-"
    value, low, high = said(number.value), said(number.low), said(number.high)
    # In a line of its own, since a table of 80 columns breaks lines anywhere else.
    return value if low == high else f"{value}\n{low} to {high}"


def short_number(value: float) -> str:
    """A number with three digits: 987, 12.3k, 4.56M."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if name == "k" else size)
            return f"{scaled:.3g}{name}" if scaled < 999.5 else f"{scaled:,.0f}{name}"
    return f"{value:,.0f}"


def needs_lines(whole: WholeRun) -> Iterator[str]:
    """The rows that it gives, its time and disk in all, and what is not counted."""
    rows = whole.rows
    counted = f"about {rows.value:,.0f} rows"
    if rows.low != rows.high:
        counted += f" ({rows.low:,.0f} to {rows.high:,.0f})"
    num_bytes = whole.dataset_bytes + sum(each.num_bytes for each in whole.stages)
    seconds = [each.seconds for each in whole.stages if each.seconds is not None]
    lasting = ""
    if len(seconds) == len(whole.stages):
        lasting = expected_text(total(seconds), duration).replace("\n", " (")
        lasting = f" in {lasting}{')' * ('(' in lasting)}"
    yield f"the whole run: {counted}{lasting}, {decimal(round(num_bytes))} of disk"
    for note in whole.notes:
        yield f"not counted: {note}"
