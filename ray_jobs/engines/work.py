"""The units of one model, and the engines that work on them.

Each engine holds enough units to keep about twice its batch waiting, so that it never drains
between leases; fewer units than that are spread evenly, also over engines that are still starting.
When an engine dies, its open units become suspects (suspects.py) and run alone, one at a time, on
one engine, while the others go on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import EngineUnit
from ray_jobs.dispatch.receipts import LOST, Advance, Tally, ready_receipts
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
    alone: Replica | None = None
    """Engine on which suspects run: it takes no other unit until there are none."""
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
        return any(replica.open_ for replica in self.replicas.all)

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
        return sum(max(0, (size if not r.deaths else 1) - r.num_open) for r in up)

    def grant(self, ready: Collection[Any]) -> None:
        """Gives the engines that are up the units that they have room for."""
        self.replicas.settle(ready)
        up = self.replicas.working
        self.alone = self._elected(up)
        if self.alone is not None and self.alone in up and not self.alone.open_:
            self._try_alone(self.alone)
        takers = [replica for replica in up if replica is not self.alone]
        coming = sum(replica.starting is not None for replica in self.replicas.all)
        left = sum(replica.num_open for replica in takers) + len(self.waiting)
        share = left / max(1, len(takers) + coming)
        kept = coming * min(math.floor(share), self.units_per_engine)  # for starting engines
        while self.waiting and takers:
            replica = min(takers, key=lambda each: each.num_open)
            if replica.open_ and len(self.waiting) <= kept:
                break
            # An engine that has just died gets little until it has done a unit: all that it holds
            # when it dies again must run alone.
            room = min(math.ceil(share), self.units_per_engine if not replica.deaths else 1)
            if replica.num_open >= room:
                takers.remove(replica)
                continue
            num = min(max(1, room // LEASES_PER_ENGINE), room - replica.num_open)
            num = min(num, max(1, len(self.waiting) - kept))
            _open(replica, [self.waiting.popleft() for _ in range(num)])

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
        if self.alone is not None and self.alone.is_given_up:
            self.suspects.doubt()
            self.alone = None
        if self.alone is not None:
            idle = not self.waiting and any(not replica.open_ for replica in up)
            if self.alone.is_up or self.trial is not None or not idle:
                return self.alone
        return min(up, key=lambda replica: replica.num_open, default=None)

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
        if unit.part is None or not unit.part.is_merge:  # merging asks the engine nothing
            self.replicas.succeeded(replica)
        whole: Receipt | None = receipt
        if generator is self.trial:
            self.trial = None
            whole = self.suspects.survived(receipt)
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
            self.suspects.add(unit)


def _open(replica: Replica, units: list[EngineUnit]) -> Any:
    assert replica.engine is not None
    generator = replica.engine.actor.work.options(num_returns="streaming").remote(*units)
    replica.open_[generator] = {unit.name.unit: unit for unit in units}
    return generator
