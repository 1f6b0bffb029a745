"""What happens to the cluster under a run: a node or the head is lost, memory or a disk is full,
there is no network (FAULTS 10, 11, 15, 40, 41).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from orca2_gen.ledger import read_ledger
from tests.conftest import FinishedRun
from tests.faults.drivers import ROOT, run_driver, start_driver, wait_until
from tests.faults.faulty import happened, plant
from tests.faults.oracle import assert_whole

SLOW = {f"sums/train/s{n}": 0.5 for n in range(28)}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs and two nodes with one each, all on this machine."""
    options = {"object_store_memory": 80_000_000}
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **options}
    )
    for _ in range(2):
        found.add_node(num_cpus=1, **options)
    yield found
    found.shutdown()


@pytest.mark.slow
def test_10_a_node_that_is_lost_costs_no_row(
    undisturbed: FinishedRun, tmp_path: Path, cluster: Cluster
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow=SLOW)
    process = start_driver(
        undisturbed.config_file,
        run_dir,
        "student.replicas=2",
        "teacher.replicas=2",
        address=cluster.address,
    )
    wait_until(process, lambda: len(read_ledger(run_dir).committed("scores")) > 0)
    cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


@pytest.mark.slow
def test_11_a_lost_head_ends_the_driver_and_the_run_goes_on_elsewhere(
    undisturbed: FinishedRun, tmp_path: Path, cluster: Cluster
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow=SLOW)
    process = start_driver(
        undisturbed.config_file,
        run_dir,
        address=cluster.address,
        RAY_gcs_rpc_server_reconnect_timeout_s="5",
    )
    wait_until(process, lambda: len(read_ledger(run_dir).committed("scores")) > 0)
    cluster.head_node.kill_gcs_server()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    committed = read_ledger(run_dir).units
    cluster.shutdown()
    plant(run_dir)
    code, printed = run_driver(undisturbed.config_file, run_dir)
    assert code == 0, printed
    assert committed.items() <= read_ledger(run_dir).units.items()
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


@pytest.mark.slow
def test_15_a_full_disk_of_rays_own_stops_no_run(undisturbed: FinishedRun, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    code, printed = run_driver(
        undisturbed.config_file, run_dir, RAY_local_fs_capacity_threshold="0.01"
    )
    assert code == 0, printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


@pytest.mark.slow
def test_40_an_engine_killed_for_its_memory_is_replaced(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    memory = psutil.virtual_memory()
    taken_mb = 3000
    threshold = 1 - memory.available / memory.total + 0.5 * taken_mb * 2**20 / memory.total
    if threshold > 0.95:
        pytest.skip(f"only {memory.available >> 20} MB are free")
    run_dir = tmp_path / "run"
    plant(run_dir, allocate_mb=taken_mb)
    code, printed = run_driver(
        undisturbed.config_file,
        run_dir,
        RAY_memory_usage_threshold=f"{threshold:.3f}",
        RAY_memory_monitor_refresh_ms="100",
    )
    assert code == 0, printed
    assert happened(run_dir, "allocate_mb") == 1
    assert "engine 0 died" in printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


def test_41_the_whole_generator_runs_where_there_is_no_network(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    probe = (
        subprocess.run(
            ["unshare", "-rn", "ip", "link", "set", "lo", "up"],
            capture_output=True,
            text=True,
            check=False,
        )
        if shutil.which("ip")
        else None
    )
    if probe is None or probe.returncode:
        pytest.skip(f"no network namespace here: {probe.stderr.strip() if probe else 'no ip'}")
    run_dir = tmp_path / "run"
    command = (
        f"ip link set lo up && exec {sys.executable} -m tests.faults.faulty run "
        f"{undisturbed.config_file} --set run_dir={run_dir}"
    )
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    child = subprocess.run(
        ["unshare", "-rn", "sh", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert_whole(run_dir, undisturbed.run_dir, printed=child.stdout + child.stderr)
