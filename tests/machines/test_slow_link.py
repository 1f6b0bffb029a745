"""A machine behind a link of 100 ms that loses one frame in a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FinishedRun
from tests.faults.faulty import hosts_asked
from tests.faults.oracle import assert_whole
from tests.machines.clusters import ENGINES, PORT, cluster_of, drive_slowly, plant_slow_problems
from tests.machines.namespaces import Site
from tests.machines.slow_link import DELAY_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONNECT = """
import socket, sys, time
started = time.monotonic()
socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(time.monotonic() - started)
"""


def test_a_driver_and_an_engine_behind_a_slow_link_make_the_same_rows(
    alone: FinishedRun, machines: Site, tmp_path: Path
) -> None:
    head, near, far = machines.add(), machines.add(), machines.add(is_slow=True)
    cluster_of(head, near, far, options=[ENGINES])
    assert float(far.run("python", "-c", CONNECT, head.name, str(PORT))) >= 2 * DELAY_SECONDS
    run_dir = tmp_path / "run"
    plant_slow_problems(run_dir, 2.0)
    replicas = ("student.replicas=2", "teacher.replicas=2")
    code, printed = drive_slowly(far, head, alone.config_file, run_dir, *replicas).ended()
    assert code == 0, printed
    assert hosts_asked(run_dir) == {near.name, far.name}
    assert_whole(run_dir, alone.run_dir, printed=printed)
