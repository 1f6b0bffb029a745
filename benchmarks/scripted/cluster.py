"""A stage on simulated engines, second by second."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from orca2_gen.run_directory.engine_figures import Answers, EngineFigures
from orca2_gen.selection.blocks import Group

LOOK_SECONDS = 10
"""Seconds between two events with the engines' figures."""


@dataclass(kw_only=True, slots=True, eq=False)
class Unit:
    """A unit of a stage, and the cells that are open."""

    group: Group
    index: int
    rows: list[tuple[str, int]]
    """(strategy, problem) of each cell."""
    tokens: list[int]
    """Those of each cell's answer."""
    left: int
    survivors: int = 0
    """Bits of the strategies that are still in after it."""
    done: dict[int, list[Cell]] = field(default_factory=dict)
    """Engine -> cells that it has answered and that would be lost with it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cell:
    """One row to be answered."""

    unit: Unit
    strategy: str
    tokens: int


@dataclass(kw_only=True, slots=True, eq=False)
class Cluster:
    """Engines of one model."""

    rng: np.random.Generator
    num: int
    sequences: int
    token_seconds: float
    crowding: float
    """By how much a step of a full batch takes longer than one of a single sequence."""
    load_seconds: float
    death_rate: float
    """Deaths of an engine in a second."""


@dataclass(kw_only=True, slots=True, eq=False)
class Engine:
    """One start of an engine."""

    figures: EngineFigures
    up_at: float
    cells: dict[int, Cell] = field(default_factory=dict)
    """Place in its batch -> the cell there."""
    generated: float = 0.0
    rows: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Event:
    """What the driver sees at one time: a unit that is done, or the engines' figures."""

    time: float
    unit: Unit | None = None
    figures: tuple[EngineFigures, ...] = ()
    living: frozenset[str] = frozenset()


class Stage:
    """A stage that runs on a simulated cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.queue: deque[Cell] = deque()
        self._left = np.zeros((cluster.num, cluster.sequences))
        self._starts: list[Engine] = []
        self._engines = [self._start(place, 0.0) for place in range(cluster.num)]
        self.now = 0.0

    def run(self, following: Callable[[Unit], list[Cell]]) -> Iterator[Event]:
        """What the driver sees, to the end; `following(unit)` are the cells that come next."""
        num_open = {id(cell.unit) for cell in self.queue}
        while num_open:
            self.now += 1.0
            self._die()
            for unit in self._answered():
                num_open.discard(id(unit))
                yield Event(self.now, unit=unit)
                cells = following(unit)
                num_open |= {id(cell.unit) for cell in cells}
                self.queue.extendleft(reversed(cells))
            self._fill()
            if self.now % LOOK_SECONDS == 0:
                living = frozenset(engine.figures.start for engine in self._engines)
                shown = tuple(self._shown(engine) for engine in self._starts)
                yield Event(self.now, figures=shown, living=living)

    def _start(self, place: int, now: float) -> Engine:
        rng, mean = self._cluster.rng, self._cluster.load_seconds
        figures = EngineFigures(
            start=f"{place}.{len(self._starts)}", stage="scores", model="m", replica=place, node="n"
        )
        engine = Engine(figures=figures, up_at=now + mean * rng.uniform(0.8, 1.5))
        self._starts.append(engine)
        return engine

    def _die(self) -> None:
        for place, engine in enumerate(self._engines):
            if self._cluster.rng.random() >= self._cluster.death_rate:
                continue
            lost = list(engine.cells.values())
            for unit in {id(cell.unit): cell.unit for cell in lost}.values():
                again = unit.done.pop(place, [])
                unit.left += len(again)
                lost += again
            self.queue.extendleft(lost)
            self._left[place] = 0.0
            self._engines[place] = self._start(place, self.now + 30.0)

    def _answered(self) -> list[Unit]:
        """Units that are done after one more second."""
        running = (self._left > 0).sum(axis=1)
        share = running / self._cluster.sequences
        steps = 1.0 / (self._cluster.token_seconds * (1.0 + self._cluster.crowding * share))
        before = np.minimum(self._left, steps[:, None])
        for engine, made in zip(self._engines, before.sum(axis=1), strict=True):
            engine.generated += float(made)
        was_open = self._left > 0
        self._left -= before
        finished: list[Unit] = []
        for place, slot in zip(*np.nonzero(was_open & (self._left <= 0)), strict=True):
            engine = self._engines[place]
            cell = engine.cells.pop(int(slot))
            engine.rows[cell.strategy] += 1
            engine.tokens[cell.strategy] += cell.tokens
            cell.unit.left -= 1
            cell.unit.done.setdefault(int(place), []).append(cell)
            if not cell.unit.left:
                finished.append(cell.unit)
        return finished

    def _fill(self) -> None:
        for place, engine in enumerate(self._engines):
            if engine.up_at > self.now:
                continue
            for slot in np.nonzero(self._left[place] <= 0)[0]:
                if not self.queue:
                    return
                cell = self.queue.popleft()
                engine.cells[int(slot)] = cell
                self._left[place, slot] = cell.tokens

    def _shown(self, engine: Engine) -> EngineFigures:
        return replace(
            engine.figures,
            seconds=self.now,
            start_seconds=engine.up_at if engine.up_at <= self.now else None,
            num_open=len(engine.cells),
            num_running=len(engine.cells),
            generated_tokens=int(engine.generated),
            answers={
                name: Answers(requests=num, completion_tokens=engine.tokens[name])
                for name, num in engine.rows.items()
            },
            rows=dict(engine.rows),
        )
