"""A machine is cut off, and the driver's machine is lost: no row is lost or made twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import FinishedRun
from tests.faults.faulty import hosts_asked
from tests.faults.oracle import assert_whole, committed, snapshot
from tests.machines.clusters import ENGINES, cluster_of, drive_slowly, plant_slow_problems
from tests.machines.namespaces import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REPLICAS = ("student.replicas=2", "teacher.replicas=2")


def test_a_machine_that_is_cut_off_and_then_killed_costs_no_row(
    alone: FinishedRun, machines: Site, tmp_path: Path
) -> None:
    head, second, third = (machines.add() for _ in range(3))
    cluster_of(head, second, third, options=[ENGINES])
    run_dir = tmp_path / "run"
    plant_slow_problems(run_dir, 4.0)
    driver = drive_slowly(head, head, alone.config_file, run_dir, *REPLICAS)
    driver.wait_until(lambda: third.name in hosts_asked(run_dir))
    third.cut_off()
    # It goes on working, and writes to the run directory, until Ray's head gives it up.
    driver.wait_until(lambda: " died with " in driver.printed)
    third.kill()
    code, printed = driver.ended()
    assert code == 0, printed
    assert max(receipt.attempt for receipt in read_ledger(run_dir).units.values()) > 1
    assert_whole(run_dir, alone.run_dir, printed=printed)


def test_a_run_whose_drivers_machine_is_lost_goes_on_from_another_machine(
    alone: FinishedRun, machines: Site, tmp_path: Path
) -> None:
    head, second, third = (machines.add() for _ in range(3))
    cluster_of(head, second, third, options=[ENGINES])
    run_dir = tmp_path / "run"
    plant_slow_problems(run_dir, 4.0)
    lost = drive_slowly(second, head, alone.config_file, run_dir, *REPLICAS)
    lost.wait_until(lambda: run_dir.exists() and committed(run_dir)["scores"] > 0)
    lost.wait_until(lambda: {second.name, third.name} <= hosts_asked(run_dir))
    second.kill()
    lost.process.wait(timeout=20)
    assert (run_dir / "driver.lock").exists()
    before = snapshot(run_dir)
    assert not (run_dir / "dataset" / "manifest.json").exists()
    code, printed = drive_slowly(third, head, alone.config_file, run_dir, *REPLICAS).ended()
    assert code == 0, printed
    waits = rf"^waiting 45 s to see whether process \d+ on {second.name} still lives$"
    assert re.search(waits, printed, re.MULTILINE), printed
    assert_whole(run_dir, alone.run_dir, printed=lost.printed + printed, before=before)
