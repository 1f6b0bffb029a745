"""A stage's progress for people, on stderr: a live table on a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orca2_gen.console.engines import EngineRates, engine_table, engines_line
from orca2_gen.foresight.amounts import Amount, KnownUnits, Races, num_units
from orca2_gen.foresight.seconds import Foresight, Foretold
from orca2_gen.run_directory.engine_figures import EngineFigures, read_figures
from orca2_gen.run_directory.units import Receipt

LINE_SECONDS = 30.0
"""Seconds of silence after which a line says what is going on, where the output is no terminal."""
LOOK_SECONDS = 1.0
"""Seconds between two looks at the engines' figures on a terminal."""
_JOIN_SECONDS = 2.0
_OTHER_LINES = 8
"""Lines of a terminal that the table of engines leaves: what is taller stays when it should go."""
FORETELL_SECONDS = 10.0
"""Seconds between two estimates of the time left: races are played on for it."""
_SURE_UNITS = 3
"""Units of a stage without engines after which the time left is told."""

console = Console(stderr=True)


@dataclass(slots=True)
class StageProgress:
    """One stage as it runs."""

    stage: str
    amount: Amount
    """What it has to do."""
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
    foresight: Foresight | None = None
    """None for a stage of which too little is known."""
    foretold: Foretold | None = None
    """The time left at `foretold_at`, as far as it is known."""
    foretold_at: float = -math.inf
    _receipts: deque[Receipt] = field(default_factory=deque)
    """Those that `foresight` has not seen."""

    def __post_init__(self) -> None:
        self.earlier = frozenset(read_figures(self.run_dir)) if self.run_dir else frozenset()

    @property
    def total(self) -> int | None:
        """Units of the stage; None if unknown."""
        return num_units(self.amount)

    def advance(self, receipt: Receipt) -> None:
        """Counts a committed receipt."""
        if isinstance(self.amount, KnownUnits | Races):
            self._receipts.append(receipt)
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
            self._foresee()

    def _foresee(self) -> None:
        """Estimates the time left, now and then."""
        now = time.monotonic()
        if now - self.foretold_at < FORETELL_SECONDS or not isinstance(
            self.amount, KnownUnits | Races
        ):
            return
        if self.foresight is None:
            self.foresight = Foresight(self.amount)
        while self._receipts:
            with suppress(OSError, ValueError):  # verify says what is wrong with a file
                self.foresight.add(self._receipts.popleft())
        self.foresight.look(now, self.engines, self.rates.living(self.engines))
        self.foretold, self.foretold_at = self.foresight.foretell(), now

    @property
    def seconds_left(self) -> Foretold | None:
        """The seconds until the last unit; None if unknown."""
        now = time.monotonic()
        if (foretold := self.foretold) is not None:
            passed = now - self.foretold_at
            return Foretold(
                seconds=max(0.0, foretold.seconds - passed),
                low=max(0.0, foretold.low - passed),
                high=max(0.0, foretold.high - passed),
            )
        has_engines = isinstance(self.amount, KnownUnits | Races)
        if has_engines or self.total is None or self.units < _SURE_UNITS:
            return None
        assert self.first_unit is not None
        left = (now - self.first_unit) / (self.units - 1) * (self.total - self.units)
        return Foretold(seconds=left, low=left, high=left)

    @property
    def counted(self) -> str:
        """Units and rows so far, and the time left."""
        of = f" of {self.total}" if self.total else ""
        done = f"{self.units}{of} units, {self.rows} rows, " if self.units or self.total else ""
        left = self.seconds_left
        return f"{self.stage}: {done}{_duration(time.monotonic() - self.started)}" + (
            f", {_left(left)}" if left and left.seconds else ""
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
    stage: str, amount: Amount, *, run_dir: Path | None = None
) -> Iterator[Callable[[Receipt], None]]:
    """A function that takes each committed receipt.

    Args:
        stage: name of the stage.
        amount: what it has to do.
        run_dir: where engines write their figures; None for a stage without engines.
    """
    progress = StageProgress(stage=stage, amount=amount, run_dir=run_dir)
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


def _left(foretold: Foretold) -> str:
    """The time left, with its interval unless that is a single value."""
    said = f"about {_duration(foretold.seconds)} left"
    if foretold.low == foretold.high:
        return said
    return f"{said} ({_duration(foretold.low)} to {_duration(foretold.high)})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
