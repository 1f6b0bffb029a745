"""The search for a problem that killed an engine: units that were open on it run alone.

A unit that only shared the engine runs alone once and is done. A unit that kills an engine while
alone is halved, and its halves run alone, down to single problems. A problem that kills twice while
alone is given up and becomes a Rejection, but, as long as anything else can be tried, only once the
engine has done something again (`postpone`): no problem is to blame for an engine that dies of
everything. Halves that succeed are kept as parts, so that a unit that was merely too much at once
is done in pieces. Pure: no engine, no clock.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field

from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import EngineUnit, Part
from ray_jobs.engines.cuts import Cut

KILLS_OF_A_PROBLEM = 2
"""Engines that a single problem must end while alone: an engine can also die by itself."""


@dataclass(kw_only=True, slots=True)
class _Search:
    """The state of the search in one suspect unit."""

    unit: EngineUnit
    open_: deque[tuple[int, int]]
    """Ranges of problems still to be tried."""
    done: list[Receipt] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    kills: dict[int, int] = field(default_factory=dict)
    """Single problem -> engines that it ended while alone."""
    is_whole: bool = True
    """Whether the unit is still tried as one piece, whose receipt is the unit's own."""

    @property
    def is_blaming(self) -> bool:
        """Whether nothing is left but to merge its parts without the lost problems."""
        return bool(self.lost) and not self.open_


@dataclass(kw_only=True, slots=True)
class Suspects:
    """Units to be tried alone, one at a time."""

    searches: deque[_Search] = field(default_factory=deque)
    attempts: int = 0

    def __bool__(self) -> bool:
        return bool(self.searches)

    def add(self, unit: EngineUnit) -> None:
        """Takes in a unit that was open, among others, on an engine that died."""
        assert unit.part is None
        self.searches.append(_Search(unit=unit, open_=deque([(0, unit.num_problems)])))

    def add_cut(self, cut: Cut) -> None:
        """Takes in a unit of which a part was open there; its parts that are done stay so."""
        search = _Search(unit=cut.unit, open_=deque(cut.left), done=cut.done, is_whole=False)
        self.searches.append(search)

    @property
    def is_blaming(self) -> bool:
        """Whether the next run gives problems up for good."""
        return bool(self.searches) and self.searches[0].is_blaming

    def postpone(self) -> bool:
        """Whether a search that gives no problem up yet exists, which is then put first."""
        place = next((i for i, each in enumerate(self.searches) if not each.is_blaming), 0)
        self.searches.rotate(-place)
        return place > 0

    def doubt(self) -> None:
        """Reopens the lost problems, since the engine that they ended was given up."""
        for search in self.searches:
            search.open_.extend((first, first + 1) for first in search.lost)
            search.lost.clear()
            # Another engine need die of each only once before the problem is given up.
            search.kills = dict.fromkeys(search.kills, KILLS_OF_A_PROBLEM - 1)

    def next(self) -> EngineUnit:
        """The unit to run now, alone; `survived` or `died` must be called afterwards."""
        search = self.searches[0]
        self.attempts += 1
        name = dataclasses.replace(
            search.unit.name, attempt=search.unit.name.attempt + self.attempts
        )
        part: Part | None = None
        if not search.open_:
            done, lost = tuple(search.done), tuple(sorted(search.lost))
            part = Part(first=0, last=0, is_merge=True, done=done, lost=lost)
        elif not search.is_whole:
            first, last = search.open_[0]
            part = Part(first=first, last=last)
        return dataclasses.replace(search.unit, name=name, part=part)

    def survived(self, receipt: Receipt) -> Receipt | None:
        """The unit's own receipt, to be committed, if this was its last part."""
        search = self.searches[0]
        if search.is_whole or not search.open_:
            self.searches.popleft()
            return receipt
        search.open_.popleft()
        search.done.append(receipt)
        return None

    def died(self) -> None:
        """Narrows the search after the unit that ran alone has ended its engine."""
        search = self.searches[0]
        # Merging asks the engine nothing, nor does a unit that lost all its problems before: the
        # unit is not at fault.
        if not search.open_ or not search.unit.num_problems:
            return
        first, last = search.open_.popleft()
        search.is_whole = False
        if last - first > 1:
            middle = (first + last) // 2
            search.open_.extendleft([(middle, last), (first, middle)])
            return
        search.kills[first] = search.kills.get(first, 0) + 1
        if search.kills[first] < KILLS_OF_A_PROBLEM:
            search.open_.appendleft((first, last))
        else:
            search.lost.append(first)
