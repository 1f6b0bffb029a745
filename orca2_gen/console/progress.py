"""A stage's progress for people, on stderr: a live table on a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from orca2_gen.console.metrics import METRICS_SECONDS, MetricsFile, PrometheusPage
from orca2_gen.console.stage import StageProgress, has_engines
from orca2_gen.foresight.amounts import Amount
from orca2_gen.foresight.expected import Expected
from orca2_gen.run_directory.units import Receipt

LINE_SECONDS = 30.0
"""Seconds of silence after which a line says what is going on, where the output is no terminal."""
LOOK_SECONDS = 1.0
"""Seconds between two looks at the engines' figures on a terminal."""
FIGURE_SECONDS = 5.0
"""The same elsewhere: engines write them no more often."""
_JOIN_SECONDS = 2.0

console = Console(stderr=True)


@contextmanager
def show_stage(
    stage: str,
    amount: Amount,
    *,
    run_dir: Path | None = None,
    page: PrometheusPage | None = None,
    to_come: Callable[[], Expected | None] | None = None,
) -> Iterator[Callable[[Receipt], None]]:
    """A function that takes each committed receipt.

    Args:
        stage: name of the stage.
        amount: what it has to do.
        run_dir: where engines write their figures; None for a stage without engines.
        page: where Prometheus reads the stage's; None if nowhere.
        to_come: asked for the seconds of teaching while the student is scored.
    """
    asked = to_come if stage == "scores" else None
    progress = StageProgress(stage=stage, amount=amount, run_dir=run_dir, to_come=asked)
    with (
        _repeated(progress.look, LOOK_SECONDS if console.is_terminal else FIGURE_SECONDS),
        _for_programs(progress, page),
        _live(progress) if console.is_terminal else _lines(progress),
    ):
        yield progress.advance
    console.print(progress.closing_line(), highlight=False, markup=False, soft_wrap=True)


Show = Callable[..., AbstractContextManager[Callable[[Receipt], None]]]


def shown(run_dir: Path) -> Show:
    """`show_stage` for the stages of a run directory, with the engines of each."""
    return functools.partial(show_stage, run_dir=run_dir)


@contextmanager
def served(
    run_dir: Path, port: int | None, to_come: Callable[[], Expected | None] | None = None
) -> Iterator[Show]:
    """What `shown` returns, with a page for Prometheus on this port unless it is None.

    Args:
        run_dir: the run.
        port: of the loopback address.
        to_come: asked for the seconds of teaching while the student is scored.

    Raises:
        ValueError: the port cannot be had.
    """
    if port is None:
        yield functools.partial(show_stage, run_dir=run_dir, to_come=to_come)
        return
    page = PrometheusPage(port)
    try:
        yield functools.partial(show_stage, run_dir=run_dir, page=page, to_come=to_come)
    finally:
        page.close()


@contextmanager
def _for_programs(progress: StageProgress, page: PrometheusPage | None) -> Iterator[None]:
    """Writes lines of metrics of a stage with engines, and serves them."""
    run_dir = progress.run_dir
    if run_dir is None or not has_engines(progress.stage):
        yield
        return
    file = MetricsFile(run_dir)
    if page is not None:
        page.begin(progress)
    try:
        with _repeated(lambda: file.write(progress), METRICS_SECONDS):
            yield
    finally:

        def tell_last() -> None:
            progress.look()
            file.write(progress)

        if page is not None:
            page.end()
        last = threading.Thread(target=tell_last, daemon=True)
        last.start()
        last.join(_JOIN_SECONDS)  # of a file system that hangs too


@contextmanager
def _live(progress: StageProgress) -> Iterator[None]:
    """A table that is drawn again and again, and gone in the end."""
    with Live(
        get_renderable=lambda: progress.screen(console.height),
        console=console,
        refresh_per_second=1.0 / LOOK_SECONDS,
        transient=True,
    ):
        yield


@contextmanager
def _lines(progress: StageProgress) -> Iterator[None]:
    """A line at the start, and one every LINE_SECONDS."""
    units = f", {progress.total} units" if progress.total else ""
    console.print(f"{progress.stage}: started{units}", highlight=False, markup=False)

    def tell() -> None:
        console.print(progress.line(), highlight=False, markup=False, soft_wrap=True)

    with _repeated(tell, LINE_SECONDS):
        yield


@contextmanager
def _repeated(function: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls a function every so many seconds from a thread.

    A call that hangs keeps nobody: the driver's own loop never waits for the thread, and its end
    only for a moment.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            with suppress(OSError):  # of a closed terminal: the next line may come through
                function()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_SECONDS)
