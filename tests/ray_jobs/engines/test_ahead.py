"""Races on engines that work ahead: each block gets its own cells, whatever came before it."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Literal
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orca2_gen.calls import Budget
from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import Block, Group, Rule, block, block_unit, num_in_block
from ray_jobs.dispatch.leases import EngineUnit, RaceSoFar, Rows, ScoreUnit
from ray_jobs.dispatch.receipts import Tally
from ray_jobs.engines.ahead import MOST_DROPPED, Ahead
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.work import EngineWork
from tests.ray_jobs.engines import stand_ins
from tests.ray_jobs.engines.stand_ins import Lease, StandIn
from tests.ray_jobs.engines.test_deaths import LIMITS, TURNS

Cell = tuple[int, str]
"""A problem's number and a strategy."""
NOTHING = FileEntry(path="", rows=0, bytes=0, sha256="")
RULE = Rule(
    policy="student_best",
    strategies=("a", "b", "c"),
    method="race",
    delta=0.05,
    scored_problems=30,
    block_size=2,
    open_requests=0,
    indifference=0.0,
    none_solved="a",
    cautious_arm=True,
    run_seed=1,
)


def rows_of(group: str, numbers: Sequence[int]) -> Rows:
    return ((dataclasses.replace(NOTHING, path=group), tuple(numbers)),)


def block_unit_of(group: Group, rule: Rule, found: Block) -> ScoreUnit:
    name = block_unit(group, found.index)
    return ScoreUnit(
        name=UnitName(stage="scores", stage_key="k", unit=name, group=group.name),
        rows=rows_of(group.name, found.problems),
        strategies=found.strategies,
        role="student",
        budget=Budget(max_tokens=1, max_model_len=None),
        race=RaceSoFar(group=group, rule=rule, first=found.first, earlier=()),
    )


def asked_of(unit: EngineUnit) -> list[Cell]:
    """The cells that an engine is asked for."""
    assert isinstance(unit, ScoreUnit)
    numbers = [number for _, rows in unit.rows for number in rows]
    if unit.part is not None:
        numbers = numbers[unit.part.first : unit.part.last]
    return [(number, strategy) for number in numbers for strategy in unit.strategies]


class Races(RuleBasedStateMachine):
    """A driver's turns, in an order that hypothesis chooses; strategies fall as it chooses too."""

    @initialize(
        num_engines=st.integers(1, 5),
        sizes=st.lists(st.integers(1, 24), min_size=1, max_size=3),
        open_requests=st.integers(0, 40),
        requests_per_engine=st.integers(2, 60),
        prefer=st.sampled_from(["fewest_tokens", "shortest_time"]),
        can_die=st.booleans(),
    )
    def begin(
        self,
        num_engines: int,
        sizes: list[int],
        open_requests: int,
        requests_per_engine: int,
        prefer: Literal["fewest_tokens", "shortest_time"],
        can_die: bool,
    ) -> None:
        self.rule = dataclasses.replace(RULE, open_requests=open_requests)
        self.groups = {
            f"g{n}": Group(name=f"g{n}", num_problems=size, num_groups=len(sizes))
            for n, size in enumerate(sizes)
        }
        self.open: dict[str, Block] = {}
        self.can_die = can_die
        self.made: dict[tuple[str, str], list[Cell]] = {}
        self.asked: Counter[tuple[str, Cell]] = Counter()
        self.num_needed = 0
        self.removed: set[tuple[str, str]] = set()
        self.committed: dict[str, int] = dict.fromkeys(self.groups, 0)
        self.falls: list[tuple[str, ...]] = []
        self.ahead = Ahead(rows_of=rows_of, prefer=prefer)
        self.work = EngineWork(
            replicas=Replicas(self._start, num_engines, LIMITS, lambda line: None),
            requests_per_engine=requests_per_engine,
            tally=Tally(limits=DispatchConfig()),
            advance=self._advance,
            waiting=deque(self._opened(name, 0, 0, RULE.strategies) for name in self.groups),
            ahead=self.ahead,
        )

    def _start(self, index: int, node: str) -> Any:
        return StandIn()

    def _opened(self, name: str, index: int, first: int, left: tuple[str, ...]) -> ScoreUnit:
        group = self.groups[name]
        self.open[name] = block(group, self.rule, index, first, left)
        return block_unit_of(group, self.rule, self.open[name])

    def _advance(self, receipt: Receipt) -> None:
        found = self.open.pop(receipt.group)
        self.work.cuts.give_up(receipt.unit)
        self.ahead.committed(receipt)
        self._remove_stale()
        left = self.falls.pop(0) if self.falls else found.strategies[:-1]
        left = tuple(name for name in found.strategies[:-1] if name in left) or left[:1]
        group = self.groups[receipt.group]
        first = found.first + num_in_block(group, self.rule, len(found.strategies) - 1)
        if first >= group.num_problems or len(left) == 1:
            self.ahead.decided(receipt.group)
            self._remove_stale()
        else:
            self.work.waiting.appendleft(self._opened(group.name, found.index + 1, first, left))

    def _remove_stale(self) -> None:
        for receipt in self.ahead.take_stale():
            self.removed.add((receipt.unit, receipt.files[0].path))

    def turn(self) -> None:
        work = self.work
        with mock.patch("ray.get", stand_ins.get):
            work.grant([ref for ref in work.refs if ref.is_ready])
            work.take([ref for ref in work.refs if ref.is_ready])
        for receipt in work.taken:
            found = self.open[receipt.group]
            assert receipt.unit == block_unit(self.groups[receipt.group], found.index)
            cells = self.made[receipt.unit, receipt.files[0].path]
            needed = [(number, name) for number in found.problems for name in found.strategies]
            assert sorted(cells) == sorted(needed), "a cell is absent, foreign, or twice there"
            self.num_needed += len(needed)
            self.committed[receipt.group] += len(found.problems)
        for receipt in work.taken:
            work.advance(receipt)
        work.taken = []

    def _do(self, lease: Lease, unit: EngineUnit) -> None:
        lease.units.remove(unit)
        assert isinstance(unit, ScoreUnit)
        cells = [] if unit.part is not None and unit.part.is_merge else asked_of(unit)
        self.asked.update((unit.name.group, cell) for cell in cells)
        if unit.part is not None and unit.part.is_merge:
            whole = asked_of(dataclasses.replace(unit, part=None))
            block_cells = set(whole)
            numbers = list(dict.fromkeys(number for number, _ in whole))
            lost = {numbers[index] for index in unit.part.lost}
            cells += [cell for cell in whole if cell[0] in lost]
            for done in unit.part.done:
                file = done.unit, done.files[0].path
                assert file not in self.removed, "a file is removed before it is merged"
                cells += [cell for cell in self.made[file] if cell in block_cells]
        ends = unit.part and not unit.part.is_merge and (unit.part.first, unit.part.last)
        path = f"{ends or ''}.a{unit.name.attempt}"
        self.made[unit.name.unit, path] = cells
        receipt = Receipt(
            stage="scores",
            stage_key="k",
            unit=unit.name.unit,
            attempt=unit.name.attempt,
            files=(dataclasses.replace(NOTHING, path=path),),
            counts={},
            group=unit.name.group,
        )
        lease.answers.append(receipt)

    @property
    def engines(self) -> list[StandIn]:
        found: list[Any] = [r.engine for r in self.work.replicas.all if r.engine is not None]
        return found

    @property
    def leases(self) -> list[Lease]:
        found = [lease for engine in self.engines for lease in engine.leases]
        return [lease for lease in found if lease.units and not lease.is_lost]

    @rule()
    def the_engines_come_up(self) -> None:
        for engine in self.engines:
            if not engine.loading.is_ready:
                engine.get_placed()
                engine.come_up()
        self.turn()

    @rule(data=st.data(), is_seen=st.booleans())
    def a_unit_is_done(self, data: st.DataObject, is_seen: bool) -> None:
        if self.leases:
            lease = data.draw(st.sampled_from(self.leases))
            self._do(lease, data.draw(st.sampled_from(lease.units)))
        if is_seen:
            self.turn()

    @rule(left=st.lists(st.sampled_from(RULE.strategies), min_size=1, unique=True))
    def the_next_block_leaves_only_these(self, left: list[str]) -> None:
        self.falls.append(tuple(left))

    @rule(data=st.data())
    def an_engine_dies(self, data: st.DataObject) -> None:
        if self.can_die and self.engines:
            data.draw(st.sampled_from(self.engines)).fail()

    @invariant()
    def no_cell_is_asked_twice_while_all_engines_live(self) -> None:
        if hasattr(self, "work") and not self.can_die:
            assert not self.asked or max(self.asked.values()) == 1

    @invariant()
    def few_cells_can_be_dropped_where_the_fewest_tokens_are_preferred(self) -> None:
        if not hasattr(self, "work") or self.ahead.prefer == "shortest_time":
            return
        ahead = self.ahead
        at_risk = sum(c.cells(r.end) for r in ahead.races.values() for c in r.chunks)
        assert ahead.num_dropped + at_risk <= MOST_DROPPED * ahead.num_needed

    def teardown(self) -> None:
        if not hasattr(self, "work"):
            return
        for _ in range(TURNS):
            self.turn()
            if self.work.is_done:
                break
            for engine in self.engines:
                if not engine.loading.is_ready:
                    engine.get_placed()
                    engine.come_up()
            for lease in self.leases:
                for unit in list(lease.units):
                    self._do(lease, unit)
        assert self.work.is_done, "it would go on for ever"
        assert not self.open, "a race is not ended"
        left = {unit.name.unit for unit in self.ahead.end()}
        if not self.can_die:
            num_asked = sum(self.asked.values())
            still_open = [u for lease in self.leases for u in lease.units]
            assert left == {unit.name.unit for unit in still_open}, (
                "nothing else is open at the end"
            )
            num_asked += sum(len(asked_of(unit)) for unit in still_open)
            assert num_asked == self.num_needed + self.ahead.num_dropped
            assert self.ahead.num_needed == self.num_needed


TestRaces = Races.TestCase
TestRaces.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
