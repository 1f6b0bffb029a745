"""A stage's progress for people, on stderr: a live table on a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orca2_gen.console.engines import EngineRates, engine_table, engines_line
from orca2_gen.run_directory.engine_figures import EngineFigures, read_figures
from orca2_gen.run_directory.units import Receipt

LINE_SECONDS = 30.0
"""Seconds of silence after which a line says what is going on, where the output is no terminal."""
LOOK_SECONDS = 1.0
"""Seconds between two looks at the engines' figures on a terminal."""
_JOIN_SECONDS = 2.0
_OTHER_LINES = 8
"""Lines of a terminal that the table of engines leaves: what is taller stays when it should go."""
_SURE_UNITS = 3
"""Units after which the time left is told: the first ones fill the engines."""

console = Console(stderr=True)


@dataclass(slots=True)
class StageProgress:
    """One stage as it runs."""

    stage: str
    total: int | None
    """Units of the stage; None if unknown."""
    run_dir: Path | None
    """Where its engines' figures are; None for a stage without engines."""
    started: float = field(default_factory=lambda: time.monotonic())
    units: int = 0
    rows: int = 0
    passed_over: int = 0
    rates: EngineRates = field(default_factory=EngineRates)
    earlier: frozenset[str] = frozenset()
    """Starts of engines before the stage began."""
    first_unit: float | None = None
    """Time at which the first unit was committed."""
    engines: Mapping[str, EngineFigures] = field(default_factory=dict)
    """Its engines at the last look."""

    def __post_init__(self) -> None:
        self.earlier = frozenset(read_figures(self.run_dir)) if self.run_dir else frozenset()

    def advance(self, receipt: Receipt) -> None:
        """Counts a committed receipt."""
        self.units += 1
        self.rows += receipt.counts["input"]
        self.passed_over += receipt.counts.get("passed_over", 0)
        self.first_unit = self.first_unit or time.monotonic()

    def look(self) -> None:
        """Reads what the engines say now. It may take long: file systems hang."""
        if self.run_dir is not None:
            engines = read_figures(self.run_dir, without=self.earlier)
            self.rates.add(engines)
            self.engines = engines

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the last unit, at the speed since the first; None if unknown."""
        if self.total is None or self.first_unit is None or self.units < _SURE_UNITS:
            return None
        each = (time.monotonic() - self.first_unit) / (self.units - 1)
        return each * (self.total - self.units)

    @property
    def counted(self) -> str:
        """Units and rows so far, and the time left."""
        of = f" of {self.total}" if self.total else ""
        done = f"{self.units}{of} units, {self.rows} rows, " if self.units or self.total else ""
        left = self.seconds_left
        return f"{self.stage}: {done}{_duration(time.monotonic() - self.started)}" + (
            f", about {_duration(left)} left" if left else ""
        )

    def line(self) -> str:
        """What is going on."""
        has_engines = self.engines or (self.run_dir and _has_engines(self.stage))
        return self.counted + (f"; {engines_line(self.engines, self.rates)}" if has_engines else "")

    def screen(self) -> Group:
        """The same for a terminal."""
        if not self.engines:
            return Group(Text(self.line()))
        most = max(1, console.height - _OTHER_LINES)
        return Group(Text(self.counted), engine_table(self.engines, self.rates, most))

    def closing_line(self) -> str:
        """What was done."""
        said = f"{self.units} units, {self.rows} rows, " if self.units else ""
        said += f"{self.passed_over} rows passed over by samples, " if self.passed_over else ""
        return f"{self.stage}: {said}{time.monotonic() - self.started:.1f} s"


@contextmanager
def show_stage(
    stage: str, total: int | None, *, run_dir: Path | None = None
) -> Iterator[Callable[[Receipt], None]]:
    """A function that takes each committed receipt; `total` is in units, None if unknown.

    Args:
        stage: name of the stage.
        total: its units.
        run_dir: where engines write their figures; None for a stage without engines.
    """
    progress = StageProgress(stage=stage, total=total, run_dir=run_dir)
    with _live(progress) if console.is_terminal else _lines(progress):
        yield progress.advance
    console.print(progress.closing_line(), highlight=False, soft_wrap=True)


def shown(run_dir: Path) -> Callable[..., AbstractContextManager[Callable[[Receipt], None]]]:
    """`show_stage` for the stages of a run directory, with the engines of each."""
    return functools.partial(show_stage, run_dir=run_dir)


@contextmanager
def _live(progress: StageProgress) -> Iterator[None]:
    """A table that is drawn again and again, and gone in the end."""
    with (
        _repeated(progress.look, LOOK_SECONDS),
        Live(
            get_renderable=progress.screen,
            console=console,
            refresh_per_second=1.0 / LOOK_SECONDS,
            transient=True,
        ),
    ):
        yield


@contextmanager
def _lines(progress: StageProgress) -> Iterator[None]:
    """A line at the start, and one every LINE_SECONDS."""
    units = f", {progress.total} units" if progress.total else ""
    console.print(f"{progress.stage}: started{units}", highlight=False)

    def tell() -> None:
        progress.look()
        console.print(progress.line(), highlight=False, soft_wrap=True)

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


def _has_engines(stage: str) -> bool:
    return stage.startswith(("scores", "judgements", "rationales", "evaluation "))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
