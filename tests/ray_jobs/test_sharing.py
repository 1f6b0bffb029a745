"""Devices that two models share: engines are stand-ins, what is tested is who may have what."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.config_schema import DispatchConfig
from ray_jobs.engine_work import EngineWork
from ray_jobs.placement import Placement
from ray_jobs.receipts import Tally
from ray_jobs.replicas import Replica, Replicas
from ray_jobs.sharing import Side, share

UNITS_PER_ENGINE = 2


@dataclass
class StandIn:
    node: str

    def end(self) -> None: ...


def side(ranks: int, replicas: int, units: int, *, are_held: bool, executor: Any = None) -> Side:
    def nothing_starts(index: int) -> Any:
        raise AssertionError

    placement = Placement(replicas=replicas, ranks=ranks, device="gpu", executor=executor)
    limits = DispatchConfig()
    work = EngineWork(
        replicas=Replicas(nothing_starts, replicas, limits, print, are_held=are_held),
        units_per_engine=UNITS_PER_ENGINE,
        tally=Tally(limits=limits),
        advance=lambda receipt: None,
        waiting=deque(range(units)),  # type: ignore[arg-type]
    )
    return Side(work=work, placement=placement)


def used(sides: list[Side], nodes: dict[str, int]) -> dict[str, int]:
    found = dict.fromkeys(nodes, 0)
    for s in sides:
        for replica in s.work.replicas.all:
            if replica.engine is not None:
                found[replica.engine.node] += s.placement.ranks  # type: ignore[attr-defined]
    return found


def start(s: Side, replica: Replica, sides: list[Side], nodes: dict[str, int]) -> bool:
    """As Ray would: on a node with room, or not yet."""
    taken = used(sides, nodes)
    for node, num in nodes.items():
        if num - taken[node] >= s.placement.ranks:
            replica.engine = StandIn(node)  # type: ignore[assignment]
            replica.node = node
            return True
    return False


def turn(s: Side, sides: list[Side], nodes: dict[str, int]) -> bool:
    """Lets all engines of a side do what they can; whether anything happened."""
    happened = False
    for replica in s.work.replicas.all:
        if replica.engine is not None and replica.open_:  # finishes what it has
            replica.open_.clear()
            happened = True
        if replica.engine is not None and not replica.is_leaving and s.work.waiting:
            num = min(UNITS_PER_ENGINE, len(s.work.waiting))
            replica.open_[object()] = {str(s.work.waiting.popleft()): None for _ in range(num)}  # type: ignore[misc]
            happened = True
        if replica.engine is not None and replica.is_leaving and not replica.open_:
            replica.engine, replica.is_held = None, True
            happened = True
        if replica.engine is None and not replica.is_held:
            happened = start(s, replica, sides, nodes) or happened
    return happened


def finish(first: Side, second: Side, nodes: dict[str, int], taught: list[int]) -> int:
    """Works everything off, `taught[i]` units coming up for the second model in turn i; the most
    engines of the second that ran while the first had something waiting.
    """
    sides = [first, second]
    together = 0
    for number in range(10_000):
        if number < len(taught):
            second.work.waiting.extend(range(taught[number]))  # type: ignore[arg-type]
        share(first, second, nodes)
        happened = [turn(s, sides, nodes) for s in sides]
        assert all(num <= nodes[node] for node, num in used(sides, nodes).items())
        if first.work.waiting:
            together = max(together, sum(r.engine is not None for r in second.work.replicas.all))
        if first.work.is_done and second.work.is_done and number >= len(taught):
            return together
        assert any(happened) or number < len(taught) + 3, "it hangs"
    raise AssertionError("it does not end")


sizes = st.sampled_from([1, 2, 4, 8])


@settings(max_examples=300)
@given(
    gpus=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    ranks=st.tuples(sizes, sizes),
    replicas=st.tuples(st.integers(1, 12), st.integers(1, 4)),
    units=st.integers(0, 40),
    taught=st.lists(st.integers(0, 9), max_size=8),
)
def test_all_is_done_without_more_devices_than_there_are(
    gpus: list[int],
    ranks: tuple[int, int],
    replicas: tuple[int, int],
    units: int,
    taught: list[int],
) -> None:
    nodes = {f"n{index}": num for index, num in enumerate(gpus)}
    fitting = [sum(num // r for num in gpus) for r in ranks]
    if not all(fitting):
        return
    first = side(ranks[0], min(replicas[0], fitting[0]), units, are_held=units == 0)
    second = side(ranks[1], min(replicas[1], fitting[1]), 0, are_held=True)
    finish(first, second, nodes, taught)


def test_the_teacher_starts_while_the_student_is_scored_and_gets_the_rest_when_it_is_done() -> None:
    first = side(1, 8, 200, are_held=False)
    second = side(4, 2, 0, are_held=True)
    assert finish(first, second, {"n0": 8}, [0, 0, 6, 0, 0, 6, 60]) == 1
    assert [r.is_held for r in first.work.replicas.all] == [True] * 8


def test_the_node_that_loses_least_makes_room() -> None:
    nodes = {"n0": 8, "n1": 8}
    first = side(1, 12, 100, are_held=False)
    second = side(4, 1, 4, are_held=True)
    for index, replica in enumerate(first.work.replicas.all):
        replica.engine = StandIn("n0" if index < 7 else "n1")  # type: ignore[assignment]
        replica.node = replica.engine.node  # type: ignore[attr-defined]
    share(first, second, nodes)  # n1 has 3 free already
    leaving = [r.index for r in first.work.replicas.all if r.is_leaving]
    assert leaving == [11]


def test_where_the_student_would_lose_all_its_engines_the_teacher_waits() -> None:
    first = side(8, 1, 100, are_held=False)
    second = side(4, 2, 4, are_held=True)
    assert finish(first, second, {"n0": 8}, []) == 0


def test_engines_without_devices_all_run_at_once() -> None:
    first = side(0, 2, 10, are_held=False)
    second = side(0, 3, 10, are_held=True)
    assert finish(first, second, {"here": 2}, []) == 3
