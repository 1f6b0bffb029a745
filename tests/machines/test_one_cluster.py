"""Machines that docs/cluster.md makes a cluster of give the rows of one machine alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FinishedRun
from tests.faults.oracle import assert_whole
from tests.machines.clusters import cluster_of, drive, hosts_of_engines, submit
from tests.machines.namespaces import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_rows_of_three_machines_are_those_of_one_by_a_job_and_without(
    alone: FinishedRun, machines: Site, tmp_path: Path
) -> None:
    head, second, third = (machines.add() for _ in range(3))
    cluster_of(head, second, third)
    replicas = ("student.replicas=3", "teacher.replicas=3")

    code, printed = submit(head, alone.config_file, tmp_path / "job", *replicas).ended()
    assert code == 0, printed
    assert "job job-1: SUCCEEDED" in printed
    assert_whole(tmp_path / "job", alone.run_dir, printed=printed)

    code, printed = drive(third, head, alone.config_file, tmp_path / "run", *replicas).ended()
    assert code == 0, printed
    assert_whole(tmp_path / "run", alone.run_dir, printed=printed)
    assert len(hosts_of_engines(tmp_path / "run") | hosts_of_engines(tmp_path / "job")) > 1
