"""The overlapped schedule, which makes the same units in another order."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
import ray
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.config.load import load_config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.demo import CONFIG
from ray_jobs.dispatch.receipts import Tally
from ray_jobs.engines import placement
from ray_jobs.engines.placement import Placement
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.work import EngineWork
from ray_jobs.overlapped import ANYWHERE, Side, free, share
from ray_jobs.pipeline import read_tasks, run_all, score_student, select_strategies
from ray_jobs.run import open_run
from tests.conftest import NUM_LETTERS, FinishedRun, quiet
from tests.faults.faulty import FaultyActor, happened, plant
from tests.faults.oracle import assert_whole
from tests.ray_jobs.test_pipeline import dataset_bytes, ids, rows
from tests.ray_jobs.test_real_engines import small

pytestmark = pytest.mark.usefixtures("local_ray")
# Ray's processes cannot import a test module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

OVERLAPPED = "dispatch.schedule=overlapped"
AFTER_SUMS = {f"letters/train/{n}": "rationales/sums-*" for n in range(NUM_LETTERS)}


def run(file: Path, run_dir: Path, *sets: str) -> list[str]:
    """The stages of a run's receipts, in the order of their commits."""
    order: list[str] = []

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        yield lambda receipt: order.append(receipt.stage)

    config = load_config(file, [f"run_dir={run_dir}", OVERLAPPED, *sets])
    with open_run(config, track) as opened:
        run_all(opened)
    return order


def assert_same(run_dir: Path, undisturbed: FinishedRun) -> None:
    ours, theirs = read_ledger(run_dir).units, read_ledger(undisturbed.run_dir).units
    assert ours.keys() == theirs.keys()
    assert_whole(run_dir, undisturbed.run_dir)
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)


def test_one_task_is_taught_while_another_is_scored_and_every_byte_is_the_same(
    undisturbed: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    plant(run_dir, waits_for=AFTER_SUMS)  # no letter is scored before a sum is taught
    order = run(undisturbed.config_file, run_dir)
    last_score = len(order) - order[::-1].index("scores")
    assert "rationales" in order[:last_score]
    assert_same(run_dir, undisturbed)


def test_each_schedule_goes_on_from_the_commits_of_the_other(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    config = load_config(undisturbed.config_file, [f"run_dir={run_dir}"])
    with open_run(config, quiet) as opened:
        read_tasks(opened)
        score_student(opened)
        select_strategies(opened)
    order = run(undisturbed.config_file, run_dir)
    assert "scores" not in order and "selections" not in order and "rationales" in order
    assert_same(run_dir, undisturbed)
    assert run(undisturbed.config_file, run_dir) == []


def test_engines_that_die_in_either_model_cost_no_row(
    undisturbed: FinishedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    asked = ids(rows(read_ledger(undisturbed.run_dir), "scores")[0])
    scored, unscored = "sums/train/s0", "sums/train/s3"
    assert asked[scored] and not asked[unscored]  # so one ends a student's engine, one a teacher's
    plant(run_dir, die_on={scored: 1, unscored: 1})
    run(undisturbed.config_file, run_dir, "dispatch.backoff_seconds=0.1")
    assert happened(run_dir, "die_on") == 2
    assert_same(run_dir, undisturbed)


def test_a_policy_that_scores_nothing_starts_no_student(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    order = run(undisturbed.config_file, run_dir, "selection.policy=random")
    assert "scores" not in order and order.count("selections") == 2
    assert verify(run_dir).findings == []
    phased = tmp_path / "phased" / "run"  # has the same name
    run(undisturbed.config_file, phased, "selection.policy=random", "dispatch.schedule=phased")
    assert dataset_bytes(run_dir) == dataset_bytes(phased)


def worker_cores(actor: Any) -> list[set[int]]:
    """The cores on which each rank of this running engine may compute."""
    pid = ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
    workers = [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if process.name().startswith("VLLM::Worker")
        and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
    ]
    # vLLM binds the computing thread, which is the first, and not those that wait for messages.
    return [set(os.sched_getaffinity(worker.pid)) for worker in workers]


@pytest.mark.engine
@pytest.mark.slow
def test_two_real_engines_run_at_once_on_a_core_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)
    run_dir = tmp_path / "run"
    # The student's last answers wait until the teacher has been seen beside it.
    plant(run_dir, waits_for={f"river/train/river-train-{n:03d}": "../seen" for n in range(24)})
    config = load_config(CONFIG, small(run_dir, 24, OVERLAPPED))
    together: list[list[list[set[int]]]] = []

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            if receipt.stage == "rationales" and not together:
                engines = [replicas.all[0] for replicas in opened.replicas]
                assert engines[0].open_, "the student has work as well"
                together.append([worker_cores(r.engine.actor) for r in engines if r.engine])
                (tmp_path / "seen").touch()

        yield advance

    with open_run(config, track) as opened:
        run_all(opened)
    [[student, teacher]] = together
    [on_student], [on_teacher] = student, teacher
    assert len(on_student) == len(on_teacher) == 1
    if len(os.sched_getaffinity(0)) > 1:
        assert not on_student & on_teacher
    assert verify(run_dir).findings == []


UNITS_PER_ENGINE = 2


@dataclass(frozen=True)
class OneRequest:
    """A unit that is never worked on."""

    num_requests: int = 1


@dataclass
class StandIn:
    node: str

    def end(self) -> None: ...


def side(ranks: int, replicas: int, units: int, *, are_held: bool, executor: Any = None) -> Side:
    def nothing_starts(index: int, node: str) -> Any:
        raise AssertionError

    placement = Placement(replicas=replicas, ranks=ranks, device="gpu", executor=executor)
    limits = DispatchConfig()
    work = EngineWork(
        replicas=Replicas(nothing_starts, replicas, limits, print, are_held=are_held),
        requests_per_engine=UNITS_PER_ENGINE - 1,
        tally=Tally(limits=limits),
        advance=lambda receipt: None,
        waiting=deque([OneRequest()] * units),  # type: ignore[list-item]
    )
    return Side(work=work, placement=placement)


def put(s: Side, index: int, node: str) -> Replica:
    """An engine of a side that is up on a node."""
    replica = s.work.replicas.all[index]
    replica.engine = StandIn(node)  # type: ignore[assignment]
    replica.node = ANYWHERE if s.placement.executor == "ray" else node
    return replica


@dataclass
class World:
    """Two models on a cluster that places engines as Ray may, loses engines, and loses a node."""

    sides: list[Side]
    nodes: dict[str, int]
    random: Random
    brought: int = 0
    """Units of the first side that finished ones still bring up, as blocks of a race do."""
    starts: dict[int, int] = field(default_factory=dict)
    """Place of a side -> its starts."""

    def used(self) -> dict[str, int]:
        found = dict.fromkeys(self.nodes, 0)
        for s in self.sides:
            for replica in s.work.replicas.all:
                if replica.engine is not None:
                    found[replica.engine.node] += s.placement.ranks  # type: ignore[attr-defined]
        return found

    def start(self, s: Side, replica: Replica) -> bool:
        """Whether the replica starts: on the node kept for it, else on any with room."""
        taken = self.used()
        room = [node for node, num in self.nodes.items() if num - taken[node] >= s.placement.ranks]
        if replica.node in self.nodes:
            room = [node for node in room if node == replica.node]
        if room:
            put(s, replica.index, self.random.choice(room))
            place = self.sides.index(s)
            self.starts[place] = self.starts.get(place, 0) + 1
        return bool(room)

    def turn(self, s: Side) -> bool:
        """Whether anything happens when all engines of a side do what they can.

        Units that a finished one brings up are seen before any engine takes them.
        """
        happened = False
        for replica in s.work.replicas.all:
            is_up = replica.engine is not None
            if is_up and replica.open_:  # finishes what it has
                num = min(replica.num_open, self.brought) if s is self.sides[0] else 0
                self.brought -= num
                s.work.waiting.extend([OneRequest()] * num)  # type: ignore[list-item]
                replica.open_.clear()
                happened = True
            elif is_up and not replica.is_leaving and s.work.waiting:
                num = min(UNITS_PER_ENGINE, len(s.work.waiting))
                units = [s.work.waiting.popleft() for _ in range(num)]
                replica.open_[object()] = dict(enumerate(units))  # type: ignore[arg-type]
                happened = True
            if is_up and replica.is_leaving and not replica.open_:
                replica.engine, replica.is_held = None, True
                happened = True
            if replica.engine is None and not replica.is_held:
                happened = self.start(s, replica) or happened
        return happened

    def kill(self, s: Side, replica: Replica) -> None:
        """Ends an engine as `Replicas.died` and dispatch do, without suspects."""
        for units in replica.open_.values():
            s.work.waiting.extend(units.values())
        replica.open_.clear()
        replica.engine, replica.is_held = None, replica.is_leaving

    def lose_engine(self) -> None:
        living = [(s, r) for s in self.sides for r in s.work.replicas.all if r.engine is not None]
        if living:
            self.kill(*self.random.choice(living))

    def lose_node(self, node: str) -> None:
        for s in self.sides:
            for replica in s.work.replicas.all:
                if replica.engine is not None and replica.engine.node == node:  # type: ignore[attr-defined]
                    self.kill(s, replica)
        del self.nodes[node]

    def promised(self) -> int:
        return sum(len(s.engines) * s.placement.ranks for s in self.sides)


def finish(world: World, taught: list[int], deaths: Collection[int] = (), lost: int = -1) -> int:
    """The most engines of the second model that ran while the first had units waiting.

    All work is done; in turn i `taught[i]` units come up for the second model.
    """
    first, second = world.sides
    together = 0
    quiet = 0
    for number in range(3_000):
        if number < len(taught):
            second.work.waiting.extend([OneRequest()] * taught[number])  # type: ignore[list-item]
        if number in deaths:
            world.lose_engine()
        if number == lost:
            world.lose_node(max(world.nodes))
        share(first, second, world.nodes)
        assert world.promised() <= sum(world.nodes.values())
        assert all(num >= 0 for num in free(world.sides, world.nodes).values())
        happened = [world.turn(s) for s in world.sides]
        assert all(num <= world.nodes[node] for node, num in world.used().items())
        if first.work.waiting:
            together = max(together, sum(r.engine is not None for r in second.work.replicas.all))
        if all(s.work.is_done for s in world.sides) and number >= len(taught):
            return together
        quiet = 0 if any(happened) or number < len(taught) else quiet + 1
        assert quiet < 4, "it hangs"
    raise AssertionError("it does not end")


sizes = st.sampled_from([1, 2, 4, 8])


@settings(max_examples=400)
@given(
    gpus=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    ranks=st.tuples(sizes, sizes),
    replicas=st.tuples(st.integers(1, 12), st.integers(1, 4)),
    units=st.integers(0, 40),
    taught=st.lists(st.integers(0, 9), max_size=8),
    deaths=st.sets(st.integers(0, 20), max_size=4),
    lost=st.integers(-8, 15),
    random=st.randoms(use_true_random=False),
)
def test_all_work_is_done_within_the_existing_devices_whatever_is_lost(
    gpus: list[int],
    ranks: tuple[int, int],
    replicas: tuple[int, int],
    units: int,
    taught: list[int],
    deaths: set[int],
    lost: int,
    random: Random,
) -> None:
    fitting = [sum(num // r for num in gpus) for r in ranks]
    assume(all(fitting))
    # The nodes left after the loss of one must still hold an engine of each.
    assume(lost < 0 or all(any(num >= r for num in gpus[:-1]) for r in ranks))
    first = side(ranks[0], min(replicas[0], fitting[0]), units, are_held=units == 0)
    second = side(ranks[1], min(replicas[1], fitting[1]), 0, are_held=True)
    nodes = {f"n{index}": num for index, num in enumerate(gpus)}
    together = finish(World([first, second], nodes, random), taught, deaths, lost)
    assert together <= len(second.work.replicas.all)
    assert first.work.is_done and second.work.is_done


def test_the_teacher_starts_while_the_student_is_scored_and_gets_the_rest_when_it_is_done() -> None:
    first = side(1, 8, 200, are_held=False)
    second = side(4, 2, 0, are_held=True)
    world = World([first, second], {"n0": 8}, Random(0))
    assert finish(world, [0, 0, 6, 0, 0, 6, 60]) == 1
    assert [r.is_held for r in first.work.replicas.all] == [True] * 8


@given(
    gpus=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    ranks=st.tuples(sizes, sizes),
    replicas=st.tuples(st.integers(1, 6), st.integers(1, 4)),
    units=st.integers(1, 9),
    brought=st.integers(0, 40),
    taught=st.lists(st.integers(0, 9), max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_units_that_come_up_one_after_another_start_no_engine_twice(
    gpus: list[int],
    ranks: tuple[int, int],
    replicas: tuple[int, int],
    units: int,
    brought: int,
    taught: list[int],
    random: Random,
) -> None:
    fitting = [sum(num // r for num in gpus) for r in ranks]
    assume(all(fitting))
    first = side(ranks[0], min(replicas[0], fitting[0]), units, are_held=False)
    second = side(ranks[1], min(replicas[1], fitting[1]), 0, are_held=True)
    nodes = {f"n{index}": num for index, num in enumerate(gpus)}
    world = World([first, second], nodes, random, brought=brought)
    finish(world, taught)
    assert world.brought == 0
    # One of several nodes may be cleared for the second, and its engines go to another.
    moved = len(second.work.replicas.all) * ranks[1] if len(gpus) > 1 else 0
    assert world.starts.get(0, 0) <= len(first.work.replicas.all) + moved
    assert world.starts.get(1, 0) <= len(second.work.replicas.all)


def test_the_node_that_loses_least_makes_room() -> None:
    first = side(1, 12, 100, are_held=False)
    second = side(4, 1, 4, are_held=True)
    for index in range(12):
        put(first, index, "n0" if index < 7 else "n1")
    share(first, second, {"n0": 8, "n1": 8})  # n1 has 3 free already
    assert [r.index for r in first.work.replicas.all if r.is_leaving] == [11]


def test_an_engine_across_nodes_is_admitted_only_where_all_its_ranks_are_free() -> None:
    nodes = {f"n{index}": 8 for index in range(4)}
    first = side(8, 2, 100, are_held=False)
    second = side(16, 2, 40, are_held=True, executor="ray")
    for index in range(2):
        put(first, index, f"n{index}")
    share(first, second, nodes)
    assert [r.is_held for r in second.work.replicas.all] == [False, True]
    put(second, 0, "n2")
    for _ in range(5):
        share(first, second, nodes)
    assert [r.is_held for r in second.work.replicas.all] == [False, True]
    assert not any(r.is_leaving for r in first.work.replicas.all)


def test_the_only_engine_that_is_up_is_not_sent_away_for_one_that_is_not() -> None:
    first = side(4, 2, 100, are_held=False)
    second = side(4, 1, 4, are_held=True)
    first.work.replicas.all[0].node = "n0"  # died, and is to start again
    put(first, 1, "n0")
    share(first, second, {"n0": 8})
    assert not first.work.replicas.all[1].is_leaving


def test_where_the_student_would_lose_all_its_engines_the_teacher_waits() -> None:
    first = side(8, 1, 100, are_held=False)
    second = side(4, 2, 4, are_held=True)
    assert finish(World([first, second], {"n0": 8}, Random(0)), []) == 0


def test_engines_without_devices_all_run_at_once() -> None:
    first = side(0, 2, 10, are_held=False)
    second = side(0, 3, 10, are_held=True)
    assert finish(World([first, second], {"here": 2}, Random(0)), []) == 3


def test_an_engine_that_wants_more_cores_than_there_are_still_gets_its_turn() -> None:
    first = side(1, 1, 6, are_held=False)
    second = side(2, 1, 4, are_held=True)
    put(first, 0, "here")
    for _ in range(10):
        first.work.waiting.clear()
        share(first, second, {"here": 1})
        replica = first.work.replicas.all[0]
        if replica.is_leaving:
            replica.engine, replica.is_held = None, True
    assert not second.work.replicas.all[0].is_held
