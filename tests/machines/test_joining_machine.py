"""A machine that joins a cluster while a run goes on is used by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FinishedRun
from tests.faults.faulty import hosts_asked
from tests.faults.oracle import assert_whole, committed
from tests.machines.clusters import ENGINES, cluster_of, drive_slowly, join, plant_slow_problems
from tests.machines.namespaces import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_machine_that_joins_late_is_given_the_engine_that_had_no_room(
    alone: FinishedRun, machines: Site, tmp_path: Path
) -> None:
    head, second, late = (machines.add() for _ in range(3))
    cluster_of(head, second, options=[ENGINES])
    run_dir = tmp_path / "run"
    plant_slow_problems(run_dir, 8.0)
    replicas = ("student.replicas=2", "teacher.replicas=2")
    driver = drive_slowly(head, head, alone.config_file, run_dir, *replicas)
    driver.wait_until(lambda: run_dir.exists() and committed(run_dir)["scores"] > 0)
    assert hosts_asked(run_dir) == {second.name}
    join(late, head, ENGINES)
    code, printed = driver.ended()
    assert code == 0, printed
    assert hosts_asked(run_dir) == {second.name, late.name}
    assert_whole(run_dir, alone.run_dir, printed=printed)
