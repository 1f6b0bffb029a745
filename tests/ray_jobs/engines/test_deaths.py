"""Units on engines that die, come up late and share units: each is committed once and whole."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import EngineUnit, Part
from ray_jobs.dispatch.receipts import Tally
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.work import EngineWork
from tests.ray_jobs.engines import stand_ins
from tests.ray_jobs.engines.stand_ins import Lease, StandIn
from tests.ray_jobs.engines.test_suspects import covered, receipt_of, unit_of

LIMITS = DispatchConfig(backoff_seconds=0.0, max_failed_starts=1000)
TURNS = 3000
"""Turns within which everything is done once engines die of nothing but poison."""


class Deaths(RuleBasedStateMachine):
    """A driver's turns, in an order that hypothesis chooses."""

    @initialize(
        num_engines=st.integers(1, 5),
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
        blocks=st.integers(1, 3),
        poison=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=2),
    )
    def begin(
        self, num_engines: int, sizes: list[int], blocks: int, poison: set[tuple[int, int]]
    ) -> None:
        self.sizes, self.poison = {f"u{n}": size for n, size in enumerate(sizes)}, poison
        self.left = dict.fromkeys(self.sizes, blocks - 1)
        self.committed: dict[str, list[int]] = {}
        self.made: dict[tuple[str, str, int], list[int]] = {}
        self.files: dict[tuple[str, str, int], Any] = {}
        self.work = EngineWork(
            replicas=Replicas(self._start, num_engines, LIMITS, lambda line: None),
            requests_per_engine=3,
            tally=Tally(limits=LIMITS),
            advance=self._advance,
            waiting=deque(unit_of(f"{name}-0", size) for name, size in self.sizes.items()),
        )

    def _start(self, index: int, node: str) -> Any:
        return StandIn()

    def _advance(self, receipt: Receipt) -> None:
        """As a race: a committed block makes the group's next one possible, which goes first."""
        self.work.cuts.give_up(receipt.unit)
        name, _, block = receipt.unit.partition("-")
        if int(block) < self.left[name]:
            self.work.waiting.appendleft(unit_of(f"{name}-{int(block) + 1}", self.sizes[name]))

    @property
    def engines(self) -> list[StandIn]:
        found: list[Any] = [r.engine for r in self.work.replicas.all if r.engine is not None]
        return found

    @property
    def leases(self) -> list[tuple[StandIn, Lease]]:
        return [(e, lease) for e in self.engines for lease in e.leases if lease.units]

    def turn(self) -> None:
        work = self.work
        with mock.patch("ray.get", stand_ins.get):
            ready = [ref for ref in work.refs if ref.is_ready]
            work.grant(ready)
            work.take([ref for ref in work.refs if ref.is_ready])
        for receipt in work.taken:
            self._commit(receipt)
        for receipt in work.taken:
            work.advance(receipt)
        work.taken = []

    def _commit(self, receipt: Receipt) -> None:
        assert receipt.unit not in self.committed, "it is committed twice"
        name, _, _ = receipt.unit.partition("-")
        found = self.made[receipt.unit, "", receipt.attempt]
        assert sorted(found) == list(range(self.sizes[name])), "a problem is absent, or twice there"
        self.committed[receipt.unit] = found

    @rule(data=st.data(), is_up=st.booleans())
    def an_engine_gets_its_devices_or_comes_up(self, data: st.DataObject, is_up: bool) -> None:
        coming = [engine for engine in self.engines if not engine.loading.is_ready]
        if coming:
            engine = data.draw(st.sampled_from(coming))
            engine.get_placed()
            if is_up:
                engine.come_up()
        self.turn()

    @rule(data=st.data(), is_seen=st.booleans())
    def a_unit_is_done(self, data: st.DataObject, is_seen: bool) -> None:
        leases = [(engine, lease) for engine, lease in self.leases if not lease.is_lost]
        if leases:
            engine, lease = data.draw(st.sampled_from(leases))
            self._do(engine, lease, data.draw(st.sampled_from(lease.units)))
        if is_seen:
            self.turn()

    @rule(data=st.data())
    def an_engine_dies(self, data: st.DataObject) -> None:
        if self.engines:
            data.draw(st.sampled_from(self.engines)).fail()

    @rule()
    def an_engine_dies_of_a_merge(self) -> None:
        self.turn()
        for engine, lease in self.leases:
            if any(unit.part is not None and unit.part.is_merge for unit in lease.units):
                engine.fail()
                return

    def _do(self, engine: StandIn, lease: Lease, unit: EngineUnit) -> None:
        group, _, _ = unit.name.unit.removeprefix("u").partition("-")
        if any((int(group), problem) in self.poison for problem in covered(unit)):
            engine.fail()
            return
        lease.units.remove(unit)
        part = unit.part or Part(first=0, last=unit.num_problems)
        rows = [*covered(unit), *part.lost]
        for done in part.done:
            rows += self.made[done.unit, done.files[0].path, done.attempt]
        self.made[_file(unit)] = rows
        entry = FileEntry(path=_file(unit)[1], rows=0, bytes=0, sha256="")
        lease.answers.append(dataclasses.replace(receipt_of(unit), files=(entry,)))

    @invariant()
    def a_suspect_is_alone(self) -> None:
        work = getattr(self, "work", None)
        if work is not None and work.trial is not None:
            [replica] = [each for each in work.replicas.all if work.trial in each.open_]
            assert len(replica.open_) == 1 and replica is work.alone

    @invariant()
    def no_file_has_the_name_of_another(self) -> None:
        work = getattr(self, "work", None)
        leases = [lease for r in work.replicas.all for lease in r.open_.items()] if work else []
        for lease, units in leases:
            for unit in units.values():
                assert self.files.setdefault(_file(unit), lease) is lease

    @invariant()
    def parts_wait_only_for_the_merge_of_their_unit(self) -> None:
        work = getattr(self, "work", None)
        for unit in work.waiting if work is not None else ():
            cut = work.cuts.cuts.get(unit.name.unit)
            assert unit.part is None or cut is not None
            if unit.part is not None and not unit.part.is_merge:
                assert (unit.part.first, unit.part.last) in cut.left

    def teardown(self) -> None:
        if not hasattr(self, "work"):
            return
        for _ in range(TURNS):
            self.turn()
            self.no_file_has_the_name_of_another()
            if self.work.is_done:
                break
            for engine in self.engines:
                engine.get_placed()
                if not engine.loading.is_ready:
                    engine.come_up()
            for engine, lease in self.leases:
                for unit in list(lease.units):
                    if not lease.is_lost:
                        self._do(engine, lease, unit)
        units = {f"{name}-{n}" for name, left in self.left.items() for n in range(left + 1)}
        assert self.work.is_done, "it would go on for ever"
        assert self.committed.keys() == units


def _file(unit: EngineUnit) -> tuple[str, str, int]:
    """What the name of a unit's file is made of: unit, part and attempt (write_unit)."""
    part = unit.part
    name = f"p{part.first}-{part.last}" if part is not None and not part.is_merge else ""
    return unit.name.unit, name, unit.name.attempt


TestDeaths = Deaths.TestCase
TestDeaths.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
