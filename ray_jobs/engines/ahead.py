"""Work ahead of races: cells of a group's next problems, asked while engines would be idle.

A race opens one block per group, so engines run empty at the end of each. Meanwhile they are asked
about the problems that come next, under the strategies that are still in. What comes of it is a
chunk: a file that is not committed. A block that opens takes the cells that it needs from chunks,
finished or not, and only its other cells are asked for, so its rows are those of a run that never
works ahead. Cells of strategies that fell meanwhile, or beyond the end of the race, are dropped.
Pure: no engine, no clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import permutation
from ray_jobs.dispatch.leases import EngineUnit, Part, RaceSoFar, Rows, ScoreUnit
from ray_jobs.engines.cuts import Range

MOST_DROPPED = Fraction(1, 10)
"""Cells that may be dropped at most, over those that blocks needed so far, where the fewest
tokens are preferred."""
CHUNKS_PER_ENGINE = 8
"""Approximate number of chunks that fill an engine, so that each is done soon."""

FindRows = Callable[[str, Sequence[int]], Rows]
"""(group, numbers of problems in its order of reading) -> their rows."""


@dataclass(kw_only=True, slots=True)
class Chunk:
    """Cells of some problems of a race, under all strategies that were in when it was begun."""

    unit: ScoreUnit
    first: int
    """Problems of the race before it."""
    last: int
    receipt: Receipt | None = None
    """None while an engine works on it."""
    needed_by: list[tuple[str, Range]] = field(default_factory=list)
    """Open blocks that wait for it, each with the range of its problems that are in it."""

    def cells(self, first: int) -> int:
        """The number of its cells of problems from `first` on."""
        return max(0, self.last - max(first, self.first)) * len(self.unit.strategies)


@dataclass(kw_only=True, slots=True)
class _Race:
    """One group's race: its open block and the chunks beyond its committed blocks."""

    block: ScoreUnit
    chunks: list[Chunk] = field(default_factory=list)
    is_stopped: bool = False
    """Whether an engine died of its chunks: the block finds the problem that is to blame."""

    @property
    def so_far(self) -> RaceSoFar:
        assert self.block.race is not None
        return self.block.race

    @property
    def end(self) -> int:
        """The problems in its blocks, the open one included."""
        return self.so_far.first + self.block.num_problems

    @property
    def reach(self) -> int:
        """The problems in its blocks and chunks."""
        return max([self.end, *(chunk.last for chunk in self.chunks)])


@dataclass(kw_only=True, slots=True)
class Ahead:
    """The work ahead of all races of a stage."""

    rows_of: FindRows
    prefer: Literal["fewest_tokens", "shortest_time"]
    races: dict[str, _Race] = field(default_factory=dict)
    """Group -> its race, while it is undecided."""
    chunks: dict[str, Chunk] = field(default_factory=dict)
    """Name of a chunk's unit -> the chunk, while an engine works on it."""
    num_needed: int = 0
    """Cells of all blocks so far."""
    num_used: int = 0
    """Those of them that came from chunks."""
    num_dropped: int = 0
    """Cells of chunks that no block needs."""
    stale: list[Receipt] = field(default_factory=list)
    """Chunks that nothing needs any more, and whose files are to be removed."""

    def is_chunk(self, unit: EngineUnit) -> bool:
        return unit.name.unit in self.chunks

    def is_opening(self, unit: EngineUnit) -> bool:
        """Whether a waiting unit is a block that `open_block` has not seen."""
        if not isinstance(unit, ScoreUnit) or unit.race is None or unit.part is not None:
            return False
        race = self.races.get(unit.name.group)
        return race is None or race.block.name.unit != unit.name.unit

    def open_block(self, block: EngineUnit) -> dict[Range, Receipt | None]:
        """The ranges of a new block's problems that lie in chunks, in order, with their receipts.

        A receipt is None while an engine works on the chunk: `took` then says that it was for this
        block.
        """
        assert isinstance(block, ScoreUnit)
        race = self.races.setdefault(block.name.group, _Race(block=block))
        race.block = block
        self.num_needed += block.num_requests
        start = race.so_far.first
        found: dict[Range, Receipt | None] = {}
        for chunk in race.chunks:
            first, last = max(chunk.first, start), min(chunk.last, race.end)
            if first < last:
                found[first - start, last - start] = chunk.receipt
                if chunk.receipt is None:
                    chunk.needed_by.append((block.name.unit, (first - start, last - start)))
                used = (last - first) * len(block.strategies)
                self.num_used += used
                self.num_dropped += (last - first) * len(chunk.unit.strategies) - used
        return found

    def next_chunk(self, requests_per_engine: int) -> ScoreUnit | None:
        """The cells to ask for next; None if no race has more, or if too many may be dropped."""
        open_ = [race for race in self.races.values() if not race.is_stopped]
        open_ = [race for race in open_ if race.reach < self._num_problems(race)]
        if not open_:
            return None
        race = min(open_, key=lambda each: each.reach - each.end)
        strategies = race.block.strategies
        num = max(1, requests_per_engine // CHUNKS_PER_ENGINE // len(strategies))
        first = race.reach
        last = min(first + num, self._num_problems(race))
        if not self._may_ask((last - first) * len(strategies)):
            return None
        chunk = Chunk(unit=self._unit(race, first, last), first=first, last=last)
        race.chunks.append(chunk)
        self.chunks[chunk.unit.name.unit] = chunk
        return chunk.unit

    def took(self, unit: EngineUnit, receipt: Receipt) -> list[tuple[str, Range]]:
        """Keeps a chunk's receipt and returns what open blocks have waited for."""
        chunk = self.chunks.pop(unit.name.unit)
        chunk.receipt = receipt
        race = self.races.get(unit.name.group)
        if race is None or chunk not in race.chunks:
            self.stale.append(receipt)
        return chunk.needed_by

    def failed(self, unit: EngineUnit) -> list[str]:
        """Forgets a chunk whose engine died and returns the open blocks that waited for it."""
        chunk = self.chunks.pop(unit.name.unit)
        race = self.races.get(unit.name.group)
        if race is not None and chunk in race.chunks:
            race.chunks.remove(chunk)
            # Chunks behind the gap stay; the gap is asked for with its block.
            race.is_stopped = True
            self.num_dropped += chunk.cells(race.end)
        return [name for name, _ in chunk.needed_by]

    def committed(self, receipt: Receipt) -> None:
        """Forgets the chunks that lie wholly in committed blocks."""
        race = self.races.get(receipt.group)
        if race is None or race.block.name.unit != receipt.unit:
            return
        for chunk in [each for each in race.chunks if each.last <= race.end]:
            self._forget(race, chunk)

    def decided(self, group: str) -> None:
        """Drops the chunks of a group that opens no further block."""
        race = self.races.pop(group, None)
        for chunk in list(race.chunks) if race is not None else ():
            assert race is not None
            self.num_dropped += chunk.cells(race.end)
            self._forget(race, chunk)

    def end(self) -> list[ScoreUnit]:
        """Drops what is left of all races and returns the units that engines still work on."""
        for group in list(self.races):
            self.decided(group)
        return [chunk.unit for chunk in self.chunks.values()]

    def take_stale(self) -> list[Receipt]:
        """The receipts of `stale`, which is empty afterwards."""
        found, self.stale = self.stale, []
        return found

    @property
    def sentence(self) -> str:
        """The figures of the work ahead, for people; empty if there was none."""
        if not (self.num_used or self.num_dropped):
            return ""
        share = 100 * self.num_dropped / max(1, self.num_needed)
        return (
            f"worked ahead of races: {self.num_used:,} of {self.num_needed:,} cells were there "
            f"before their block, and {self.num_dropped:,} more ({share:.1f} %) were dropped"
        )

    def _forget(self, race: _Race, chunk: Chunk) -> None:
        race.chunks.remove(chunk)
        if chunk.receipt is not None:
            self.stale.append(chunk.receipt)

    def _may_ask(self, num_cells: int) -> bool:
        """Whether the dropped cells stay few even if no block needs these, nor those at risk."""
        if self.prefer == "shortest_time":
            return True
        at_risk = sum(
            chunk.cells(race.end) for race in self.races.values() for chunk in race.chunks
        )
        return self.num_dropped + at_risk + num_cells <= MOST_DROPPED * self.num_needed

    def _unit(self, race: _Race, first: int, last: int) -> ScoreUnit:
        so_far, block = race.so_far, race.block
        numbers = permutation(so_far.group, so_far.rule)[first:last]
        # No block's name ends so (selection/blocks.py).
        name = f"{so_far.group.stem}-{first}-{last}-ahead"
        return dataclasses.replace(
            block,
            name=dataclasses.replace(block.name, unit=name, attempt=1),
            rows=self.rows_of(so_far.group.name, numbers),
            race=None,
            part=Part(first=0, last=last - first),
        )

    @staticmethod
    def _num_problems(race: _Race) -> int:
        return len(permutation(race.so_far.group, race.so_far.rule))
