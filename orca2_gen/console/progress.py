"""A stage's progress for people, on stderr: bars on a terminal, a line per stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from orca2_gen.run_directory.units import Receipt

console = Console(stderr=True)


@contextmanager
def show_stage(stage: str, total: int | None) -> Iterator[Callable[[Receipt], None]]:
    """A function that takes each committed receipt; `total` is in units, None if unknown."""
    started = time.monotonic()
    units = rows = passed_over = 0
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task(stage, total=total)
        if not console.is_terminal:
            console.print(
                f"{stage}: started" + (f", {total} units" if total else ""), highlight=False
            )

        def advance(receipt: Receipt) -> None:
            nonlocal units, rows, passed_over
            units, rows = units + 1, rows + receipt.counts["input"]
            passed_over += receipt.counts.get("passed_over", 0)
            progress.update(bar, advance=1, description=f"{stage} ({rows} rows)")

        yield advance
    seconds = time.monotonic() - started
    counted = f"{units} units, {rows} rows, " if units else ""
    counted += f"{passed_over} rows passed over by samples, " if passed_over else ""
    console.print(f"{stage}: {counted}{seconds:.1f} s", highlight=False, soft_wrap=True)
