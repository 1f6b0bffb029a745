"""One stage as it runs: what is done, what its engines do, and how long it still takes."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group
from rich.text import Text

from orca2_gen.console.durations import duration
from orca2_gen.console.engines import EngineRates, engine_table, engines_line
from orca2_gen.console.strategies import strategy_tables, yield_text
from orca2_gen.foresight.amounts import Amount, KnownUnits, Races, TaughtUnits, num_units
from orca2_gen.foresight.expected import Expected
from orca2_gen.foresight.seconds import Foresight, Foretold
from orca2_gen.run_directory.engine_figures import EngineFigures, read_figures
from orca2_gen.run_directory.units import Receipt

OTHER_LINES = 8
"""Lines of a terminal that the table of engines leaves: what is taller stays when it should go."""
FORETELL_SECONDS = 10.0
"""Seconds between two estimates of the time left: races are played on for it."""
READ_RATIO = 3.0
"""Times the seconds of reading some blocks until the next are read."""
FORETELL_RATIO = 20.0
"""Times the seconds of an estimate until the next: the driver has other work."""
_SURE_UNITS = 3
"""Units of a stage without engines after which the time left is told."""


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
    accepted: int = 0
    """Rows that are committed as accepted."""
    rejected: int = 0
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
    to_come: Callable[[], Expected | None] | None = None
    """The seconds of the stage that follows, as far as they are known; asked once."""
    then: Expected | None = None
    """Its answer."""
    _receipts: deque[Receipt] = field(default_factory=deque)
    """Those that `foresight` has not seen."""
    _is_foreseen: bool = False
    _due: float = 0.0
    """Time of the next estimate."""

    def __post_init__(self) -> None:
        self._is_foreseen = isinstance(self.amount, KnownUnits | TaughtUnits | Races)
        self.earlier = frozenset(read_figures(self.run_dir)) if self.run_dir else frozenset()

    @property
    def total(self) -> int | None:
        """Units of the stage; None if unknown."""
        return num_units(self.amount)

    def advance(self, receipt: Receipt) -> None:
        """Counts a committed receipt."""
        if self._is_foreseen:
            self._receipts.append(receipt)
        self.units += 1
        self.accepted += receipt.counts["accepted"]
        self.rejected += receipt.counts["rejected"]
        self.passed_over += receipt.counts.get("passed_over", 0)
        self.first_unit = self.first_unit or time.monotonic()

    def look(self) -> None:
        """Reads what the engines say now. It may take long: file systems hang."""
        if self.run_dir is not None:
            # What cannot be read for a moment is as it was: sums of all engines never fall.
            engines = {**self.engines, **read_figures(self.run_dir, without=self.earlier)}
            self.rates.add(engines)
            self.engines = engines
            self._foresee()
            if (ask := self.to_come) is not None:
                self.to_come = None
                with suppress(Exception):  # whatever it is, the figures beside it go on
                    self.then = ask()

    def _foresee(self) -> None:
        """Estimates the time left, now and then; an estimate that fails is the stage's last."""
        if time.monotonic() < self._due or not self._is_foreseen:
            return
        began = time.monotonic()
        try:
            self._estimate(began)
        except Exception:  # of reading too: whatever it is, the figures beside it go on
            self.foretold, self._is_foreseen = None, False
        ended = time.monotonic()
        if self.foresight is not None and self.foresight.is_reading:
            self._due = ended + READ_RATIO * (ended - began)
        else:
            self._due = ended + max(FORETELL_SECONDS, FORETELL_RATIO * (ended - began))

    def _estimate(self, now: float) -> None:
        assert isinstance(self.amount, KnownUnits | TaughtUnits | Races)
        if self.foresight is None:
            self.foresight = Foresight(self.amount)
        while self._receipts:
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
        if not isinstance(self.amount, int) or self.total is None or self.units < _SURE_UNITS:
            return None
        assert self.first_unit is not None
        left = (now - self.first_unit) / (self.units - 1) * (self.total - self.units)
        return Foretold(seconds=left, low=left, high=left)

    @property
    def tokens_per_second(self) -> float:
        """The tokens that all engines that are up generated in a second, lately."""
        return sum(self.rates.tokens_per_second(each.start) for each in self._up)

    @property
    def busy_share(self) -> float:
        """The share of the time in which they had a request, lately."""
        return sum(self.rates.busy_share(each.start) for each in self._up) / max(1, len(self._up))

    @property
    def _up(self) -> list[EngineFigures]:
        living = self.rates.living(self.engines)
        return [each for each in living if each.start_seconds is not None]

    @property
    def _rows(self) -> str:
        rejected = f" and {self.rejected} rejected" if self.rejected else ""
        return f"{self.accepted} row{'s' * (self.accepted != 1)}{rejected}"

    def _done(self, total: int | None) -> str:
        """The units, of so many if that is known, and the rows."""
        of = f" of {total}" if total else ""
        return f"{self.units}{of} unit{'s' * ((total or self.units) != 1)}, {self._rows}, "

    @property
    def counted(self) -> str:
        """Units and rows so far, and the time left."""
        done = self._done(self.total) if self.units or self.total else ""
        left = self.seconds_left
        said = f"{self.stage}: {done}{duration(time.monotonic() - self.started)}"
        if left and left.seconds:
            said += f", about {duration(left.seconds)} left{_interval(left.low, left.high)}"
        if (then := self.then) is not None:
            said += f", then rationales: about {duration(then.value)}"
            said += _interval(then.low, then.high)
        return said

    def line(self) -> str:
        """What is going on."""
        if not self.engines and not (self.run_dir and has_engines(self.stage)):
            return self.counted
        parts = [self.counted, engines_line(self.engines, self.rates)]
        if made := yield_text(self.accepted, self.engines.values()):
            parts.append(made)
        return "; ".join(parts)

    def screen(self, height: int) -> Group:
        """The same for a terminal of this height."""
        if not self.engines:
            return Group(Text(self.line()))
        tables = strategy_tables(self.engines.values())
        made = yield_text(self.accepted, self.engines.values())
        head = Text(f"{self.counted}; {made}" if made else self.counted)
        # The engines go first where a terminal has no room for both.
        num_lines = sum(table.row_count + 3 for table in tables)
        shown = tables if num_lines < height // 2 else []
        most = max(1, height - OTHER_LINES - (num_lines if shown else 0))
        return Group(head, engine_table(self.engines, self.rates, most), *shown)

    def closing_line(self) -> str:
        """What was done."""
        said = self._done(None) if self.units else ""
        said += f"{self.passed_over} rows passed over by samples, " if self.passed_over else ""
        return f"{self.stage}: {said}{time.monotonic() - self.started:.1f} s"


def has_engines(stage: str) -> bool:
    """Whether a stage of this name runs on engines."""
    return stage.startswith(("scores", "judgements", "rationales", "evaluation "))


def _interval(low: float, high: float) -> str:
    """Where seconds lie, in words; empty if that is a single value."""
    return "" if low == high else f" ({duration(low)} to {duration(high)})"
