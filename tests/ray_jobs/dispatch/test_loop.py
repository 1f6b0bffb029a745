"""The loop between driver and engines, with our own actors on a real Ray."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import ray

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.run_directory.unlisted import unlisted_files
from ray_jobs.dispatch.leases import EngineUnit, TeachUnit
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.dispatch.receipts import Receipts, Tally, done_together
from ray_jobs.engines.own_process import EnginePlace
from ray_jobs.engines.placement import PlacedEngine
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.versions import Versions
from ray_jobs.engines.work import EngineWork

pytestmark = pytest.mark.usefixtures("local_ray")
# Ray's processes cannot import a test module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

QUICK = DispatchConfig(backoff_seconds=0.1)


class FragileActor:
    """An actor like EngineActor; a unit's name says what happens to its process."""

    def __init__(self, run_dir: Path, replica: int) -> None:
        self._run_dir, self._replica = run_dir, replica
        if replica in broken(run_dir):
            raise ValueError("this machine has no engine")

    async def placed(self) -> EnginePlace:
        return EnginePlace(node="n", node_id="")

    async def ready(self) -> Versions:
        if self._replica in slow(self._run_dir):
            await asyncio.sleep(3.0)
        skewed = self._replica in broken(self._run_dir, "skewed")
        return (("vllm", "0.1" if skewed else "0.2"),)

    async def work(self, *units: EngineUnit) -> AsyncIterator[Receipts]:
        tasks = [asyncio.create_task(self._one(unit)) for unit in units]
        async for receipts in done_together(tasks):
            yield receipts
        if any("lingers" in unit.name.unit for unit in units):
            await asyncio.sleep(3.0)

    async def _one(self, lease: EngineUnit) -> Receipt:
        unit, first = lease.name.unit, lease.name.attempt == 1
        if "raises" in unit:
            raise ValueError(f"{unit} cannot be read")
        if "dies-later" in unit and first:
            await asyncio.sleep(0.6)
            os._exit(1)
        await asyncio.sleep(0.3 if "slow" in unit else 0.0)
        part = lease.part
        asked = range(lease.num_problems)[part.first : part.last] if part else [0]
        if ("dies-at-once" in unit and first) or ("poison" in unit and 0 in asked):
            os._exit(1)
        reason = "engine_died" if part and part.lost else "r"
        row = Rejection(problem_id=unit, stage="rationales", reason=reason, detail="d")
        accepted = [] if "refused" in unit else [row]
        return write_unit(self._run_dir, lease.name, accepted, Rejection, [] if accepted else [row])

    async def close(self) -> None:
        pass


def broken(run_dir: Path, what: str = "broken") -> list[int]:
    """The replicas of this kind, which the test wrote to a file beside the run."""
    file = run_dir / f"{what}.txt"
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def slow(run_dir: Path) -> list[int]:
    return broken(run_dir, "slow")


def unit_of(unit: str, num_problems: int = 1) -> EngineUnit:
    nothing = FileEntry(path="", rows=0, bytes=0, sha256="")
    problems = FileEntry(path="", rows=num_problems, bytes=0, sha256="")
    return TeachUnit(
        name=UnitName(stage="rationales", stage_key="k", unit=unit),
        problems=problems,
        selection=nothing,
    )


def work_off(
    run_dir: Path,
    units: list[str],
    *,
    replicas: int = 1,
    units_per_engine: int = 2,
    limits: DispatchConfig = QUICK,
    advance: Callable[[Receipt], None] = lambda receipt: None,
    said: list[str] | None = None,
) -> Ledger:
    ledger = read_ledger(run_dir, writable=True)
    actor = ray.remote(num_cpus=0, max_concurrency=64)(FragileActor)
    pool = Replicas(
        lambda replica, node: PlacedEngine(actor=actor.remote(run_dir, replica)),
        replicas,
        limits,
        (said if said is not None else []).append,
    )
    try:
        work = EngineWork(
            replicas=pool,
            requests_per_engine=units_per_engine - 1,  # units of one request
            tally=Tally(limits=limits),
            advance=advance,
            waiting=deque(unit_of(unit) for unit in units),
        )
        dispatch(ledger, [work])
    finally:
        pool.close()
    return ledger


def assert_each_once(ledger: Ledger, units: list[str]) -> None:
    receipts = read_ledger(ledger.run_dir).committed("rationales")
    found = Counter(
        row.problem_id
        for receipt in receipts
        for row in read_records(ledger.run_dir, receipt.accepted, Rejection)
    )
    assert found == Counter(units)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("units_per_engine", [1, 4, 16])
def test_every_unit_is_committed_once(tmp_path: Path, replicas: int, units_per_engine: int) -> None:
    units = [f"u-{n:06d}" for n in range(40)]
    ledger = work_off(tmp_path, units, replicas=replicas, units_per_engine=units_per_engine)
    assert_each_once(ledger, units)
    assert unlisted_files(ledger) == []


def test_units_open_on_an_engine_that_died_run_alone_and_the_others_go_on(tmp_path: Path) -> None:
    units = ["a-slow", "b-dies-at-once", "c-slow", *(f"u-{n}" for n in range(20))]
    said: list[str] = []
    ledger = work_off(tmp_path, units, replicas=2, units_per_engine=3, said=said)
    assert_each_once(ledger, units)
    attempts = {unit: ledger.units["rationales", unit].attempt for unit in units}
    assert attempts["b-dies-at-once"] > 1
    assert len(said) == 1 and "b-dies-at-once" in said[0]
    open_then = [unit for unit in units if unit in said[0]]
    assert {unit for unit in units if attempts[unit] > 1} <= set(open_then)


def test_sixty_four_innocent_units_in_flight_with_poison_are_all_committed(tmp_path: Path) -> None:
    units = [*(f"u-slow-{n:02d}" for n in range(32)), "poison", *(f"v-slow-{n}" for n in range(32))]
    said: list[str] = []
    ledger = work_off(tmp_path, units, units_per_engine=65, said=said)
    assert_each_once(ledger, units)
    [lost] = read_records(tmp_path, ledger.units["rationales", "poison"].accepted, Rejection)
    assert lost.reason == "engine_died"
    assert sum("alone" in line for line in said) == 2, "a problem is tried alone twice"


def test_a_receipt_and_a_death_that_come_together_commit_the_unit_once(tmp_path: Path) -> None:
    """The receipt of `b` and the death of its engine both wait when the driver looks again."""
    units = ["a", "b-slow-lingers", "c-dies-later"]
    ledger = work_off(tmp_path, units, units_per_engine=3, advance=lambda receipt: time.sleep(2.0))
    assert_each_once(ledger, units)


def test_one_broken_replica_is_given_up_and_the_others_do_all(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_text("0")
    units = [f"u-slow-{n:02d}" for n in range(60)]
    said: list[str] = []
    assert_each_once(work_off(tmp_path, units, replicas=2, said=said), units)
    assert sum("did not start" in line for line in said) == QUICK.max_failed_starts - 1
    assert "given up; engines left: 1" in said[-1] and "this machine has no engine" in said[0]


@pytest.mark.parametrize(("replicas", "min_replicas"), [(1, 1), (3, 3)])
def test_below_the_floor_the_run_stops_with_the_engines_own_reason(
    tmp_path: Path, replicas: int, min_replicas: int
) -> None:
    (tmp_path / "broken.txt").write_text("0")
    limits = QUICK.model_copy(update={"min_replicas": min_replicas})
    # The others stay busy, else they would be done before the broken one is given up.
    units = [f"u-slow-{n:03d}" for n in range(400)]
    with pytest.raises(RuntimeError, match=r"failed to start 3 times.*no engine"):
        work_off(tmp_path, units, replicas=replicas, limits=limits, units_per_engine=1)
    committed = read_ledger(tmp_path).committed("rationales")
    assert_each_once(read_ledger(tmp_path), [receipt.unit for receipt in committed])


def test_an_engine_that_starts_slowly_is_waited_for_and_the_others_work(tmp_path: Path) -> None:
    (tmp_path / "slow.txt").write_text("0")
    said: list[str] = []
    units = [f"u-{n}" for n in range(10)]
    started = time.monotonic()
    assert_each_once(work_off(tmp_path, units, said=said), units)
    assert time.monotonic() - started > 3.0 and said == []


def test_an_engine_that_never_comes_up_is_given_up_after_its_time(tmp_path: Path) -> None:
    (tmp_path / "slow.txt").write_text("0")
    limits = DispatchConfig(backoff_seconds=0.0, start_seconds=1.0, max_failed_starts=1)
    with pytest.raises(RuntimeError, match="was not up after 1 s"):
        work_off(tmp_path, ["a"], limits=limits)


def test_engines_of_different_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "skewed.txt").write_text("1")
    units = [f"u-slow-{n:03d}" for n in range(400)]
    with pytest.raises(ValueError, match=r"vllm 0\.[12] and 0\.[12]"):
        work_off(tmp_path, units, replicas=2, units_per_engine=1)


def test_a_stage_that_rejects_nearly_everything_is_stopped(tmp_path: Path) -> None:
    units = [f"u-refused-{n:03d}" for n in range(200)]
    limits = DispatchConfig(rejection_rows=20, max_rejection_rate=0.9)
    with pytest.raises(TooManyRejections, match=r"rejected \(100.0%"):
        work_off(tmp_path, units, limits=limits)
    assert 20 <= len(read_ledger(tmp_path).units) < 200


def test_a_users_mistake_on_an_engine_reaches_the_driver_as_it_was_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a-raises cannot be read$"):
        work_off(tmp_path, ["a-raises"])
