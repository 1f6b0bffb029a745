"""Leases of file stages as Ray tasks, whose processes may be lost."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import FileEntry
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from orca2_gen.run_directory.unlisted import set_aside_unlisted
from ray_jobs.dispatch import file_work
from ray_jobs.dispatch.file_work import MAX_TASK_ATTEMPTS, FileWork
from ray_jobs.dispatch.leases import FileLease, UnitLease
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.dispatch.receipts import Receipts, Tally

pytestmark = pytest.mark.usefixtures("local_ray")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def write_or_die(run_dir: Path, lease: UnitLease[FileEntry]) -> Iterator[Receipts]:
    unit = lease.name.unit
    row = Rejection(problem_id=unit, stage="examples", reason="r", detail="d")
    if "full" in unit:
        raise OSError(28, "No space left on device while writing 9 bytes", str(run_dir / unit))
    if "broken" in unit:
        raise KeyError("nobody foresaw this")
    receipt = write_unit(run_dir, lease.name, [row], Rejection)
    if "dies" in unit and (lease.attempt == 1 or "always" in unit):
        os._exit(1)
    yield (receipt,)


def work_off(run_dir: Path, units: list[str], num_cpus: int = 0) -> list[str]:
    """The lines for people."""
    said: list[str] = []
    nothing = FileEntry(path="rationales/u", rows=0, bytes=0, sha256="")
    leases: list[FileLease] = [
        UnitLease(
            name=UnitName(stage="examples", stage_key="k", unit=unit), made_from=nothing, what=unit
        )
        for unit in units
    ]
    task: Any = ray.remote(num_cpus=num_cpus, max_retries=0, num_returns="streaming")(write_or_die)
    ledger = read_ledger(run_dir, writable=True)
    work = FileWork(
        ledger=ledger,
        submit=lambda lease: task.remote(run_dir, lease),
        in_flight=3,
        tally=Tally(limits=DispatchConfig()),
        advance=lambda receipt: None,
        waiting=deque(leases),
        say=said.append,
    )
    dispatch(ledger, [work])
    return said


def test_a_task_that_died_is_run_again_and_what_it_left_can_be_swept(tmp_path: Path) -> None:
    units = ["a", "b-dies", "c", "d"]
    work_off(tmp_path, units)
    ledger = read_ledger(tmp_path, writable=True)
    assert sorted(unit for _, unit in ledger.units) == units
    assert ledger.units["examples", "b-dies"].attempt == 2
    assert len(list((tmp_path / "examples").iterdir())) == len(units) + 1
    set_aside_unlisted(ledger)
    assert len(list((tmp_path / "examples").iterdir())) == len(units)


def test_a_task_that_always_dies_stops_the_run_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=rf"lost {MAX_TASK_ATTEMPTS} times .*: b-always-dies$"):
        work_off(tmp_path, ["a", "b-always-dies"])


def test_a_full_disk_in_a_remote_task_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device while writing 9 bytes"):
        work_off(tmp_path, ["a-full"])


def test_an_unforeseen_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^a Ray process raised .*nobody foresaw this") as found:
        work_off(tmp_path, ["a-broken"])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("are_taken", [False, True])
def test_a_stage_that_waits_for_cpus_that_others_hold_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, are_taken: bool
) -> None:
    monkeypatch.setattr(file_work, "QUIET_SECONDS", 0.5)
    num = int(ray.cluster_resources()["CPU"]) if are_taken else 0
    other = ray.remote(num_cpus=num)(lambda: time.sleep(8.0)).remote()
    while are_taken and ray.available_resources().get("CPU", 0.0) >= 1.0:
        time.sleep(0.1)
    said = work_off(tmp_path, ["a"], num_cpus=1)
    ray.get(other)
    assert read_ledger(tmp_path).units.keys() == {("examples", "a")}
    taken = [line for line in said if f"all {num} CPUs of the cluster are taken" in line]
    assert bool(taken) == are_taken, said
    assert all(line.startswith("a, 1 tasks open: nothing came for ") for line in said)
