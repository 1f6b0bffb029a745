from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import ray

from orca2_gen.ledger import Ledger, Receipt, UnitName, read_ledger, unlisted_files, write_unit
from orca2_gen.records import Rejection
from orca2_gen.shards import FileEntry, read_records
from ray_jobs.dispatch import MAX_ENGINE_STARTS, Pool, close_pool, dispatch_engines
from ray_jobs.leases import EngineLease, TeachLease

pytestmark = pytest.mark.usefixtures("local_ray")
# Ray's processes cannot import a test module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class DyingActor:
    """Works like an EngineActor; what a unit is called says what befalls its process."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    async def ready(self) -> int:
        return os.getpid()

    async def work(self, lease: EngineLease) -> AsyncIterator[Receipt]:
        import asyncio

        unit, first = lease.name.unit, lease.name.attempt == 1
        if "always-dies" in unit or ("dies-at-once" in unit and first):
            os._exit(1)
        if "raises" in unit:
            raise ValueError(f"{unit} cannot be read")
        if "dies-later" in unit and first:
            await asyncio.sleep(0.6)
            os._exit(1)
        await asyncio.sleep(0.3 if "slow" in unit else 0.0)
        row = Rejection(problem_id=unit, stage="rationales", reason="r", detail="d")
        yield write_unit(self._run_dir, lease.name, [row], Rejection)
        if "lingers" in unit:
            await asyncio.sleep(3.0)

    async def close(self) -> None:
        pass


def lease_of(unit: str) -> EngineLease:
    nothing = FileEntry(path="", rows=0, bytes=0, sha256="")
    return TeachLease(
        name=UnitName(stage="rationales", stage_key="k", unit=unit),
        problems=nothing,
        selection=nothing,
    )


def work_off(
    run_dir: Path,
    units: list[str],
    *,
    replicas: int = 1,
    leases_per_engine: int = 2,
    advance: Callable[[Receipt], None] = lambda receipt: None,
) -> Ledger:
    ledger = read_ledger(run_dir, writable=True)
    actor = ray.remote(num_cpus=0, max_concurrency=16)(DyingActor)
    pool = Pool(
        start=lambda replica: actor.remote(run_dir),
        actors=[actor.remote(run_dir) for _ in range(replicas)],
        starts=replicas,
    )
    try:
        dispatch_engines(
            ledger, [lease_of(unit) for unit in units], pool, leases_per_engine, advance
        )
    finally:
        close_pool(pool)
    return ledger


def assert_each_once(ledger: Ledger, units: list[str]) -> None:
    receipts = read_ledger(ledger.run_dir).committed("rationales")
    found = Counter(
        row.problem_id
        for receipt in receipts
        for row in read_records(ledger.run_dir, receipt.files[0], Rejection)
    )
    assert found == Counter(units)


@pytest.mark.parametrize("replicas", [1, 3])
def test_every_lease_is_committed_once(tmp_path: Path, replicas: int) -> None:
    units = [f"u-{n:06d}" for n in range(20)]
    assert_each_once(work_off(tmp_path, units, replicas=replicas, leases_per_engine=4), units)


def test_leases_open_on_an_engine_that_died_are_worked_off_by_the_next(tmp_path: Path) -> None:
    units = ["a-slow", "b-dies-at-once", "c", "d-dies-later", "e-slow"]
    ledger = work_off(tmp_path, units, leases_per_engine=3)
    assert_each_once(ledger, units)
    assert ledger.units["rationales", "b-dies-at-once"].attempt == 2
    assert ledger.units["rationales", "c"].attempt <= 2 + 1
    assert all(
        "c" in path.name or "a-slow" in path.name or "e-slow" in path.name
        for path in unlisted_files(ledger)
    )


def test_a_receipt_and_a_death_that_come_together_commit_the_unit_once(tmp_path: Path) -> None:
    """The receipt of `b` and the death of its engine both wait when the driver looks again."""
    units = ["a", "b-slow-lingers", "c-dies-later"]
    ledger = work_off(tmp_path, units, leases_per_engine=3, advance=lambda receipt: time.sleep(2.0))
    assert_each_once(ledger, units)


def test_an_engine_that_always_dies_stops_the_run_and_what_is_committed_stays(
    tmp_path: Path,
) -> None:
    with pytest.raises(RuntimeError, match=f"an engine died {MAX_ENGINE_STARTS} times"):
        work_off(tmp_path, ["a", "b-always-dies"], leases_per_engine=1)
    assert_each_once(read_ledger(tmp_path), ["a"])


def test_a_users_mistake_on_an_engine_reaches_the_driver_as_it_was_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a-raises cannot be read$"):
        work_off(tmp_path, ["a-raises"])
