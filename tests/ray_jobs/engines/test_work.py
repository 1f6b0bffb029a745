"""The distribution of units over engines, which are stand-ins here and do no work."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.dispatch import DispatchConfig
from ray_jobs.dispatch.receipts import Tally
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.suspects import KILLS_OF_A_PROBLEM
from ray_jobs.engines.work import EngineWork
from tests.ray_jobs.engines.test_suspects import unit_of


@dataclass
class StandIn:
    """An engine that is up or starting; it takes units and never answers."""

    @property
    def actor(self) -> Any:
        return self

    @property
    def work(self) -> Any:
        return self

    def options(self, **options: Any) -> Any:
        return self

    def remote(self, *units: Any) -> Any:
        return object()


def work_of(num_up: int, num_starting: int, num_units: int, room: int) -> EngineWork:
    """Engines, some up and some slowly starting, and units of one request."""

    def nothing_starts(index: int, node: str) -> Any:
        raise AssertionError

    limits = DispatchConfig()
    replicas = Replicas(nothing_starts, num_up + num_starting, limits, print)
    for replica in replicas.all:
        replica.engine = StandIn()  # type: ignore[assignment]
        if replica.index >= num_up:
            replica.starting, replica.due = object(), math.inf
    return EngineWork(
        replicas=replicas,
        requests_per_engine=room - 1,
        tally=Tally(limits=limits),
        advance=lambda receipt: None,
        waiting=deque(unit_of(f"u-{n}", 1) for n in range(num_units)),
    )


def open_on(work: EngineWork) -> list[int]:
    return [replica.num_open for replica in work.replicas.working]


engines = st.integers(1, 9)
units = st.integers(0, 60)
rooms = st.integers(2, 20)


@given(num_up=engines, num_units=units, room=rooms)
def test_units_are_spread_evenly_and_nothing_waits_while_an_engine_has_room(
    num_up: int, num_units: int, room: int
) -> None:
    work = work_of(num_up, 0, num_units, room)
    work.grant(())
    given_ = open_on(work)
    assert sum(given_) + len(work.waiting) == num_units
    assert not work.waiting or min(given_) >= room
    if num_units >= num_up:
        assert min(given_) >= 1, "an engine is idle while others hold several units"
    assert max(given_) <= max(room, math.ceil(num_units / num_up))


@given(num_up=engines, num_starting=engines, num_units=units, room=rooms)
def test_engines_that_are_starting_find_their_share_and_no_engine_is_idle_for_it(
    num_up: int, num_starting: int, num_units: int, room: int
) -> None:
    work = work_of(num_up, num_starting, num_units, room)
    work.grant(())
    assert sum(num > 0 for num in open_on(work)) == min(num_up, num_units)
    assert max(open_on(work)) <= min(math.ceil(num_units / (num_up + num_starting)), room)
    for replica in work.replicas.all[num_up:]:
        replica.starting = None
    work.grant(())
    if num_units >= num_up + num_starting:
        assert min(open_on(work)) >= 1


@given(num_up=engines, num_starting=engines, num_units=units, room=rooms)
def test_all_units_are_done_even_if_starting_engines_never_come_up(
    num_up: int, num_starting: int, num_units: int, room: int
) -> None:
    work = work_of(num_up, num_starting, num_units, room)
    rounds = 0
    while work.waiting:
        work.grant(())
        assert min(open_on(work)) >= min(1, num_units) or not work.waiting
        for replica in work.replicas.working:
            replica.open_.clear()  # all are done
        rounds += 1
    # The share of engines that never come up shrinks with the units left.
    assert rounds <= 10 + math.ceil(num_units / num_up)


@given(num_up=st.integers(2, 9), num_units=units, room=rooms)
def test_an_engine_that_has_just_died_gets_one_unit(num_up: int, num_units: int, room: int) -> None:
    work = work_of(num_up, 0, num_units, room)
    work.replicas.all[0].deaths = 1
    work.grant(())
    given_ = open_on(work)
    assert given_[0] <= 1
    assert (
        not work.waiting
        or min(given_[1:]) >= room
        or min(given_[1:]) >= math.ceil(num_units / num_up)
    )


def died_of_a_problem(work: EngineWork) -> Replica:
    """The only engine, up again after a single problem ended it KILLS_OF_A_PROBLEM times."""
    [replica] = work.replicas.all
    work.suspects.add(unit_of("suspect", 1))
    for _ in range(KILLS_OF_A_PROBLEM):
        work.suspects.died()
    replica.deaths = KILLS_OF_A_PROBLEM + 1
    return replica


def test_problems_are_given_up_only_on_an_engine_that_has_done_something_since_it_died() -> None:
    work = work_of(1, 0, 1, 4)
    replica = died_of_a_problem(work)
    work.grant(())
    [units] = replica.open_.values()
    assert list(units) == ["u-0"] and work.trial is None, "the engine may die of everything"
    replica.open_.clear()
    replica.deaths = 0  # it has done that unit
    work.grant(())
    [[merge]] = [list(units.values()) for units in replica.open_.values()]
    assert merge.part is not None and merge.part.lost == (0,) and work.trial in replica.open_


def test_where_nothing_else_is_left_a_problem_that_killed_twice_is_given_up() -> None:
    work = work_of(1, 0, 0, 4)
    replica = died_of_a_problem(work)
    work.grant(())
    [merge] = replica.open_[work.trial].values()
    assert merge.part is not None and merge.part.lost == (0,)


def test_problems_that_killed_a_given_up_engine_are_tried_on_another() -> None:
    work = work_of(2, 0, 0, 4)
    work.suspects.add(unit_of("suspect", 1))
    work.grant(())
    bad = work.alone
    assert bad is not None
    for _ in range(KILLS_OF_A_PROBLEM):
        work.suspects.died()
    bad.open_.clear()
    work.trial, bad.engine, bad.is_given_up = None, None, True
    work.grant(())
    assert work.alone not in (None, bad)
    [[again]] = [list(units.values()) for units in work.alone.open_.values()]  # type: ignore[union-attr]
    assert again.part is not None and not again.part.is_merge and again.part.lost == ()
    work.suspects.died()
    assert work.suspects.is_blaming, "it ended two engines, or one of them twice"
