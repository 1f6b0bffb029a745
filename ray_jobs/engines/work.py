"""The units of one model, and the engines that work on them.

Each engine holds enough units to keep about twice its batch waiting, so that it never drains
between leases; fewer units than that are spread evenly, also over engines that are still starting,
and fewer units than engines are cut into parts (cuts.py). An engine with room for more works ahead
of races (ahead.py).
When an engine dies, its open units become suspects (suspects.py) and run alone, one at a time, on
one engine, while the others go on.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import EngineUnit
from ray_jobs.dispatch.receipts import LOST, Advance, Tally, ready_receipts
from ray_jobs.engines.ahead import Ahead
from ray_jobs.engines.cuts import Cuts, range_of, spread
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.suspects import Suspects

LEASES_PER_ENGINE = 4
"""Approximate number of leases for an engine's units, so that few calls carry many units."""


@dataclass(kw_only=True, slots=True)
class EngineWork:
    """Units of one model and its engines: a Work of dispatch/loop.py."""

    replicas: Replicas
    requests_per_engine: int
    """Approximate number of requests open at once on a running engine, beside one unit more that
    may be nearly done."""
    tally: Tally
    advance: Advance
    waiting: deque[EngineUnit]
    taken: list[Receipt] = field(default_factory=list)
    suspects: Suspects = field(default_factory=Suspects)
    cuts: Cuts = field(default_factory=Cuts)
    ahead: Ahead | None = None
    """None if nothing is asked for before its unit is open."""
    alone: Replica | None = None
    """Engine on which suspects run: it takes no other unit until there are none."""
    times_given_up: int = 0
    """Its `times_given_up` when it was elected."""
    trial: Any = None
    """Generator of the suspect that runs on it now."""

    @property
    def units_per_engine(self) -> int:
        """The number of units like the next one that are open at once on an engine."""
        requests = max(1, self.waiting[0].num_requests) if self.waiting else 1
        return 1 + math.ceil(self.requests_per_engine / requests)

    @property
    def is_done(self) -> bool:
        return not (self.waiting or self.suspects or self.has_open)

    @property
    def has_open(self) -> bool:
        """Whether anything is open that is to be committed."""
        return bool(self.cuts.cuts) or any(self._num_open(replica) for replica in self.replicas.all)

    @property
    def generators(self) -> list[Any]:
        return [g for replica in self.replicas.all for g in replica.open_]

    @property
    def refs(self) -> list[Any]:
        return self.generators + self.replicas.pending

    @property
    def room(self) -> int:
        """The number of units like the next one that the engines that are up would take now."""
        size = self.units_per_engine
        up = [replica for replica in self.replicas.working if replica is not self.alone]
        return sum(max(0, (size if not r.deaths else 1) - self._num_open(r)) for r in up)

    def grant(self, ready: Collection[Any]) -> None:
        """Gives the engines that are up the units that they have room for."""
        self.replicas.settle(ready)
        up = self.replicas.working
        if (elected := self._elected(up)) is not self.alone:
            self.alone = elected
            self.times_given_up = elected.times_given_up if elected is not None else 0
        if self.alone is not None and self.alone in up and not self.alone.open_:
            self._try_alone(self.alone)
        takers = [replica for replica in up if replica is not self.alone]
        # One that waits for devices may wait for long.
        coming = sum(r.starting is not None and r.is_placed for r in self.replicas.all)
        num_idle = coming + sum(not self._num_open(replica) for replica in takers)
        self._use_work_ahead(num_idle)
        for unit in [each for each in self.waiting if takers and _is_merge(each)]:
            self.waiting.remove(unit)  # it costs an engine nothing
            _open(min(takers, key=self._num_open), [unit])
        self._cut(num_idle)
        self._spread(takers, coming)
        if not (self.waiting or self.suspects):
            self._work_ahead(takers)

    def _spread(self, takers: list[Replica], coming: int) -> None:
        """Gives the waiting units to engines that are up, but for the share of those to come."""
        takers = list(takers)
        left = sum(self._num_open(replica) for replica in takers) + len(self.waiting)
        share = left / max(1, len(takers) + coming)
        kept = coming * min(math.floor(share), self.units_per_engine)  # for starting engines
        while self.waiting and takers:
            replica = min(takers, key=self._num_open)
            if self._num_open(replica) and len(self.waiting) <= kept:
                break
            # An engine that has just died gets little until it has done a unit: all that it holds
            # when it dies again must run alone.
            room = min(math.ceil(share), self.units_per_engine if not replica.deaths else 1)
            num_open = self._num_open(replica)
            if num_open >= room:
                takers.remove(replica)
                continue
            num = min(max(1, room // LEASES_PER_ENGINE), room - num_open)
            num = min(num, max(1, len(self.waiting) - kept))
            if self.waiting[0].part is not None:  # the units behind it may be much larger
                num = 1
            self._open_next(replica, num)

    def _cut(self, num_idle: int) -> None:
        """Cuts the waiting units if engines would be idle beside them."""
        units = [unit for unit in self.waiting if unit.part is None]
        num_idle -= len(self.waiting) - len(units)
        if not 0 < len(units) < num_idle:
            return
        parts = [unit for unit in self.waiting if unit.part is not None]
        numbers = spread([unit.num_problems for unit in units], num_idle)
        for unit, num in zip(units, numbers, strict=True):
            parts += self.cuts.parts(unit, num)
        self.waiting.clear()
        self.waiting.extend(parts)

    def _use_work_ahead(self, num_idle: int) -> None:
        """Leaves of each block that has just opened only what was not asked for ahead of it."""
        if self.ahead is None:
            return
        opening = [unit for unit in self.waiting if self.ahead.is_opening(unit)]
        for unit in opening:
            if covered := self.ahead.open_block(unit):
                parts = self.cuts.rest(unit, covered, max(1, num_idle // len(opening)))
                self.waiting.remove(unit)
                self.waiting.extendleft(reversed(parts))

    def _work_ahead(self, takers: list[Replica]) -> None:
        """Gives engines with room for more some cells of blocks to come."""
        if self.ahead is None:
            return
        open_ = {
            replica.index: sum(unit.num_requests for unit in _units(replica))
            for replica in takers
            if not replica.deaths
        }
        by_index = {replica.index: replica for replica in takers}
        while open_ and min(open_.values()) < self.requests_per_engine:
            unit = self.ahead.next_chunk(self.requests_per_engine)
            if unit is None:
                return
            least = min(open_, key=lambda index: open_[index])
            _open(by_index[least], [unit])
            open_[least] += unit.num_requests

    def _num_open(self, replica: Replica) -> int:
        """The number of its open units, without those ahead of their block."""
        if self.ahead is None:
            return replica.num_open
        return sum(not self.ahead.is_chunk(unit) for unit in _units(replica))

    def _open_next(self, replica: Replica, num: int) -> None:
        """Opens the next units on an engine: the whole ones as one lease, each part as its own."""
        units = [self.waiting.popleft() for _ in range(num)]
        for unit in units:
            if unit.part is not None:
                _open(replica, [unit])
        if whole := [unit for unit in units if unit.part is None]:
            _open(replica, whole)

    def take(self, ready: Collection[Any]) -> None:
        """See Work.

        Raises:
            RuntimeError: too few engines are left.
        """
        died: dict[int, tuple[Replica, Exception]] = {}
        for replica in self.replicas.all:
            for generator in [g for g in replica.open_ if g in ready]:
                try:
                    for receipt in ready_receipts(generator):
                        if receipt is None:
                            del replica.open_[generator]
                        else:
                            self._take_in(replica, generator, receipt)
                except LOST as error:
                    died[replica.index] = replica, error
        for replica, reason in died.values():
            self._bury(replica, reason)

    def _elected(self, up: list[Replica]) -> Replica | None:
        """The engine that runs the suspects; None while there are none."""
        if not self.suspects:
            return None
        # One that was given up and moved has died on that node too, perhaps of everything.
        if self.alone is not None and self.alone.times_given_up > self.times_given_up:
            self.suspects.doubt()
            self.alone = None
        if self.alone is not None:
            idle = not self.waiting and any(not self._num_open(replica) for replica in up)
            if self.alone.is_up or self.trial is not None or not idle:
                return self.alone
        return min(up, key=self._num_open, default=None)

    def _try_alone(self, replica: Replica) -> None:
        """Opens the next suspect, or another unit first if the engine itself may be to blame."""
        # An engine that has done nothing since it died gets another unit, if there is one, before
        # problems are given up on it.
        is_doubtful = self.suspects.is_blaming and replica.deaths > 0
        if is_doubtful and not self.suspects.postpone() and self.waiting:
            _open(replica, [self.waiting.popleft()])
            return
        self.trial = _open(replica, [self.suspects.next()])

    def _take_in(self, replica: Replica, generator: Any, receipt: Receipt) -> None:
        """Keeps a receipt for the commit, unless it covers only a part of a unit."""
        unit = replica.open_[generator].pop(receipt.unit)
        if unit.part is not None and unit.part.is_merge:  # it asks the engine nothing
            self.cuts.merged[receipt.unit] = unit.part.done
        else:
            self.replicas.succeeded(replica)
        whole: Receipt | None = receipt
        if generator is self.trial:
            self.trial = None
            whole = self.suspects.survived(receipt)
        elif unit.part is not None and not _is_merge(unit):
            whole = None
            finished = [(unit.name.unit, range_of(unit))]
            if self.ahead is not None and self.ahead.is_chunk(unit):
                finished = self.ahead.took(unit, receipt)
            for name, ends in finished:
                if merge := self.cuts.took(name, ends, receipt):
                    self.waiting.appendleft(merge)
        if whole is not None:
            self.taken.append(whole)

    def _bury(self, replica: Replica, error: Exception) -> None:
        """Records an engine's death and hands its units to the search for the cause."""
        is_trial = self.trial is not None and self.trial in replica.open_
        units = self.replicas.died(replica, error, is_alone=is_trial)
        if is_trial:
            self.trial = None
            self.suspects.died()
            return
        for unit in units:
            if unit.part is None:
                self.suspects.add(unit)
            elif _is_merge(unit):  # it asked the engine nothing
                name = dataclasses.replace(unit.name, attempt=unit.name.attempt + 1)
                self.waiting.appendleft(dataclasses.replace(unit, name=name))
            elif self.ahead is not None and self.ahead.is_chunk(unit):
                for block in self.ahead.failed(unit):
                    self._suspect_cut(block)
            else:
                self._suspect_cut(unit.name.unit)

    def _suspect_cut(self, name: str) -> None:
        """Hands what is not done of a cut unit to the search for the cause."""
        if cut := self.cuts.give_up(name):
            self.suspects.add_cut(cut)
            for part in [each for each in self.waiting if each.name.unit == name]:
                self.waiting.remove(part)


def _units(replica: Replica) -> list[EngineUnit]:
    """The units that are open on an engine."""
    return [unit for units in replica.open_.values() for unit in units.values()]


def _is_merge(unit: EngineUnit) -> bool:
    return unit.part is not None and unit.part.is_merge


def _open(replica: Replica, units: list[EngineUnit]) -> Any:
    assert replica.engine is not None
    generator = replica.engine.actor.work.options(num_returns="streaming").remote(*units)
    replica.open_[generator] = {unit.name.unit: unit for unit in units}
    return generator
